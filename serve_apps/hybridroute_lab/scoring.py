"""Scores many prompts with a reloaded artifact, row by row, exactly as a route would."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.row_workers import Progress, map_rows, no_progress
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.artifact.text_features import read_features
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.text import routing_text

__all__ = ["ScoredRows", "score_prompts", "time_decisions"]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """What an artifact says of some prompts."""

    confidence: NDArray[np.float64]
    """NaN where the artifact has no confidence."""
    scope: NDArray[np.float64]
    cluster: NDArray[np.intp]
    topic: NDArray[np.intp]
    nearest: tuple[str, ...]
    vectors: NDArray[np.float32]

    def take(self, rows: NDArray[np.intp]) -> "ScoredRows":
        """Return some rows, in the given order."""
        return ScoredRows(
            self.confidence[rows],
            self.scope[rows],
            self.cluster[rows],
            self.topic[rows],
            tuple(self.nearest[row] for row in rows),
            self.vectors[rows],
        )


def score_prompts(
    scorers: Sequence[ArtifactScorer],
    prompts: Sequence[str],
    embedder: Embedder,
    progress: Progress = no_progress,
    *,
    workers: int = 1,
) -> list[ScoredRows]:
    """Return one `ScoredRows` a scorer. Each prompt is read once, whatever the number of scorers."""
    if not prompts:
        return _score_rows(prompts, scorers=scorers, embedder=embedder)
    work = partial(_score_rows, scorers=scorers, embedder=embedder)
    parts = list(
        map_rows(work, prompts, workers=workers, stage="scoring", progress=progress, slow=embedder.is_slow)
    )
    return [_joined(own) for own in zip(*parts, strict=True)]


def _score_rows(
    prompts: Sequence[str], *, scorers: Sequence[ArtifactScorer], embedder: Embedder
) -> list[ScoredRows]:
    count = len(prompts)
    vectors = np.zeros((count, embedder.embed("a").size), dtype=np.float32)
    confidence = np.full((len(scorers), count), np.nan)
    scope = np.zeros((len(scorers), count))
    cluster = np.zeros((len(scorers), count), dtype=np.intp)
    topic = np.zeros((len(scorers), count), dtype=np.intp)
    nearest: list[list[str]] = [[] for _ in scorers]
    blend = any(scorer.header.calibration is not None for scorer in scorers)
    labels = any(scorer.header.labels for scorer in scorers)
    for row, prompt in enumerate(prompts):
        text = routing_text(prompt)
        features = read_features(text, blend=blend, labels=labels)
        vectors[row] = vector = embedder.embed(text)
        for number, scorer in enumerate(scorers):
            scores = scorer.score(features, vector)
            if scores.confidence is not None:
                confidence[number, row] = scores.confidence
            scope[number, row] = scores.scope
            cluster[number, row] = scores.cluster
            topic[number, row] = scores.topic
            nearest[number].append(scores.nearest)
    return [
        ScoredRows(
            confidence[number], scope[number], cluster[number], topic[number], tuple(nearest[number]), vectors
        )
        for number in range(len(scorers))
    ]


def _joined(parts: Sequence[ScoredRows]) -> ScoredRows:
    return ScoredRows(
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.scope for part in parts]),
        np.concatenate([part.cluster for part in parts]),
        np.concatenate([part.topic for part in parts]),
        tuple(name for part in parts for name in part.nearest),
        np.concatenate([part.vectors for part in parts]),
    )


def time_decisions(
    scorer: ArtifactScorer, prompts: Sequence[str], clock: Callable[[], float]
) -> dict[str, float]:
    """Return median and 99th percentile of whole decisions in microseconds, embedding included."""
    if not prompts:
        return {"p50": float("nan"), "p99": float("nan")}
    spent = []
    for prompt in prompts:
        text = routing_text(prompt)
        begun = clock()
        scorer.score_text(text)
        spent.append((clock() - begun) * 1e6)
    return {"p50": float(np.percentile(spent, 50)), "p99": float(np.percentile(spent, 99))}
