"""Scores of a text against a route's examples: how local it looks, and whether it looks like anything known.

Pure arithmetic on vectors; thresholds are applied in `decision.py`. No promise comes with these scores: they
are explicit and explainable, not calibrated.

With `l` the mean of the three highest cosine similarities to local examples and `r` the same for remote ones:

    confidence = 1 / (1 + exp(-(l - r) / TEMPERATURE))       0.5 where a text is as near to either side
    scope      = the highest cosine similarity to any example

`confidence` rises with every similarity to a local example and falls with every one to a remote example.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hybridroute_api.vocabulary import PathName
from hybridroute_serve.routing.embedding import Embedder, Vector

__all__ = ["NEIGHBOURS", "TEMPERATURE", "ExamplesScorer", "Scorer", "Scores"]

NEIGHBOURS = 3
"""One neighbour follows odd examples, many blur small topics."""

TEMPERATURE = 0.1
"""Difference of similarities that turns even odds into 73 %."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The numbers behind one decision."""

    confidence: float
    """0 to 1: the higher, the more the text looks like what the SLM serves."""
    scope: float
    """-1 to 1: cosine similarity to the nearest example of either side."""
    local_scope: float
    """The same for local examples alone; 0 without any."""
    local_similarity: float
    """`l` in the formula."""
    remote_similarity: float
    """`r` in the formula."""
    nearest: str
    """The nearest example's text."""
    nearest_path: PathName
    """The side that the nearest example stands for."""


class Scorer(Protocol):
    """Scores a routing text."""

    def score_text(self, text: str) -> Scores:
        """Return the text's scores; the same text always gets the same ones."""
        ...


class ExamplesScorer:
    """Scores by similarity to examples. Made once per live policy; safe to share between tasks."""

    def __init__(
        self, embedder: Embedder, local_examples: Sequence[str], remote_examples: Sequence[str]
    ) -> None:
        if not local_examples and not remote_examples:
            raise ValueError("a scorer needs at least one example")
        self._embedder = embedder
        self._texts = (*local_examples, *remote_examples)
        self._local_count = len(local_examples)
        self._matrix = np.stack([embedder.embed(text) for text in self._texts])

    def score_text(self, text: str) -> Scores:
        """Embed and score a routing text."""
        return self.score(self._embedder.embed(text))

    def score(self, vector: Vector) -> Scores:
        """Score one normalised vector. A side without examples counts as similarity 0, and so does a text
        without tokens (a vector of zeros), which is out of scope at any positive scope threshold.
        """
        similarities = self._matrix @ vector
        to_local = similarities[: self._local_count]
        local = _mean_of_highest(to_local)
        remote = _mean_of_highest(similarities[self._local_count :])
        nearest = int(similarities.argmax())
        return Scores(
            confidence=1.0 / (1.0 + math.exp((remote - local) / TEMPERATURE)),
            scope=float(similarities[nearest]),
            local_scope=float(to_local.max()) if to_local.size else 0.0,
            local_similarity=local,
            remote_similarity=remote,
            nearest=self._texts[nearest],
            nearest_path=PathName.SLM if nearest < self._local_count else PathName.LLM,
        )


def _mean_of_highest(similarities: Vector) -> float:
    if similarities.size > NEIGHBOURS:
        similarities = np.partition(similarities, -NEIGHBOURS)[-NEIGHBOURS:]
    return float(similarities.sum()) / similarities.size if similarities.size else 0.0
