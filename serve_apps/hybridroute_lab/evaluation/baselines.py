"""What a router must beat: rankings that need no learning, and simple ones learned from the same labels."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.evaluation.complexity import complexity

__all__ = ["BASELINES", "Sample", "nearest_similarity"]

Floats = NDArray[np.float64]

_NEIGHBOURS = 40
_PRIOR_ROWS = 10.0
_CHUNK = 1_024


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows as baselines see them."""

    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    vectors: NDArray[np.float32]
    gains: Floats
    """LLM score minus SLM score. Of the rows to rank only the oracle may look at it."""


def _random(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001 - one signature for all
    return rng.random(len(asked.prompts))


def _prompt_length(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """The better of "long ones first" and "short ones first", as the labels say."""
    lengths = np.array([len(prompt) for prompt in known.prompts], dtype=np.float64)
    ranks = lengths.argsort().argsort() - (lengths.size - 1) / 2.0
    direction = 1.0 if float(ranks @ (known.gains - known.gains.mean())) >= 0.0 else -1.0
    return direction * np.array([len(prompt) for prompt in asked.prompts], dtype=np.float64)


def _category_prior(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """Mean gain of the row's category, which no router is told, pulled to the mean by ten imagined rows."""
    overall = float(known.gains.mean())
    names, place = np.unique(known.categories, return_inverse=True)
    sums = np.bincount(place, weights=known.gains - overall)
    counts = np.bincount(place)
    prior = dict(zip(names.tolist(), (sums / (counts + _PRIOR_ROWS)).tolist(), strict=True))
    return np.array([prior.get(category, 0.0) for category in asked.categories])


def nearest_similarity(
    vectors: NDArray[np.float32], known: NDArray[np.float32], *, itself: bool = False
) -> Floats:
    """Return the cosine similarity to the nearest known row; of a known row, to the nearest other one."""
    parts = []
    for start in range(0, len(vectors), _CHUNK):
        similar = vectors[start : start + _CHUNK] @ known.T
        if itself:
            rows = np.arange(len(similar))
            similar[rows, start + rows] = -1.0
        parts.append(similar.max(axis=1))
    return np.concatenate(parts).astype(np.float64)


def _nearest_neighbours(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    """Mean gain of the 40 nearest labelled prompts in the embedding."""
    count = min(_NEIGHBOURS, len(known.prompts))
    found = []
    for start in range(0, len(asked.prompts), _CHUNK):
        similar = asked.vectors[start : start + _CHUNK] @ known.vectors.T
        nearest = np.argpartition(-similar, count - 1, axis=1)[:, :count]
        found.append(known.gains[nearest].mean(axis=1))
    return np.concatenate(found)


def _complexity(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    return np.array([complexity(prompt) for prompt in asked.prompts])


def _oracle(known: Sample, asked: Sample, rng: np.random.Generator) -> Floats:  # noqa: ARG001
    return asked.gains


BASELINES: dict[str, Callable[[Sample, Sample, np.random.Generator], Floats]] = {
    "random": _random,
    "prompt_length": _prompt_length,
    "category_prior": _category_prior,
    "knn": _nearest_neighbours,
    "complexity_heuristic": _complexity,
    "oracle": _oracle,
}
"""By name: labelled rows, rows to rank, randomness, to one score a row."""
