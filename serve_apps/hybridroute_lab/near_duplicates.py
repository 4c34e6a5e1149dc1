"""Prompts that occur again, word for word or nearly so, across rows that should be strangers."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIMILAR", "count_near_duplicates", "find_near_duplicates", "group_repeats"]

SIMILAR = 0.97
"""Cosine similarity of embeddings from which two prompts count as near-duplicates."""

_CHUNK = 1_024
_JUDGED = 5_000


def group_repeats(prompts: Sequence[str]) -> NDArray[np.intp]:
    """Return a number for each prompt, the same for prompts that differ in case and blanks alone."""
    seen: dict[str, int] = {}
    return np.array([seen.setdefault(_folded(prompt), len(seen)) for prompt in prompts], dtype=np.intp)


def find_near_duplicates(vectors: NDArray[np.float32], known: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Tell for each vector whether some known one is nearly the same."""
    if not len(known):
        return np.zeros(len(vectors), dtype=np.bool_)
    found = [
        (vectors[start : start + _CHUNK] @ known.T).max(axis=1) >= SIMILAR
        for start in range(0, len(vectors), _CHUNK)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.bool_)


def count_near_duplicates(
    vectors: NDArray[np.float32], known: NDArray[np.float32], rng: np.random.Generator
) -> int:
    """Return how many vectors have a near-duplicate; of more than 5,000 a random 5,000 speak for all."""
    if len(vectors) <= _JUDGED:
        return int(find_near_duplicates(vectors, known).sum())
    judged = vectors[rng.choice(len(vectors), _JUDGED, replace=False)]
    return round(float(find_near_duplicates(judged, known).mean()) * len(vectors))


def _folded(prompt: str) -> str:
    return " ".join(prompt.lower().split())
