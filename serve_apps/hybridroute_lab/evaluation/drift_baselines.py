"""What simpler charts notice of the same drift: prompt length, complexity, the nearest known text, chance, an oracle.

A chart of one number is two of the run time's, one for unusually low and one for unusually high values, with limits
from the same bootstrap for the same rate. It replays the very streams that the route's charts saw, and is told each
request's label to tell sessions by. Not here: what is measured of them, see `drift.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.drift.limits import SESSION_LENGTH, bootstrap_limits
from hybridroute_lab.drift.replay import StepRows
from hybridroute_lab.evaluation.baselines import nearest_similarity
from hybridroute_lab.evaluation.complexity import complexity
from hybridroute_lab.tables import LabelledTexts
from hybridroute_serve.routing.drift.charts import LEVELS
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.text import routing_text

__all__ = ["DriftBaselines", "OneNumberCharts", "fit_drift_baselines"]

Floats = NDArray[np.float64]

_TIE_BREAKER = 1e-6  # equal numbers get ranks of their own, else the commonest would always look odd
_SHARES = (0.5, 0.5)


@dataclass(frozen=True, slots=True)
class OneNumberCharts:
    """Steps and limits of one baseline."""

    undrifted: StepRows
    drifted: StepRows
    limits: Floats
    """Of its charts; that of the clusters, which it has none of, is never reached."""


DriftBaselines = dict[str, OneNumberCharts]


def fit_drift_baselines(
    known: LabelledTexts,
    fresh: LabelledTexts,
    shift: LabelledTexts,
    embedder: Embedder,
    *,
    recent: int,
    requests: int,
    rng: np.random.Generator,
) -> DriftBaselines:
    """Set each baseline's limits with the known rows, for `requests` replayed in each resample.

    `recent`: how many requests back a label counts as repeated.
    """
    rows = (known, fresh, shift)
    numbers = [np.unique(each.labels, return_inverse=True)[1].astype(np.intp) for each in rows]
    found: DriftBaselines = {}
    for name, values in _numbers(rows, embedder):
        known_values, *others = [each + _TIE_BREAKER * rng.random(each.size) for each in values]
        quantiles = np.quantile(known_values, LEVELS)
        steps = [
            StepRows.build(
                [(each, quantiles, False), (each, quantiles, True)],
                cluster=np.zeros(each.size, dtype=np.intp),
                topic=labels,
                shares=np.ones(1),
                recent=recent,
                labels=labels,
            )
            for each, labels in zip((known_values, *others), numbers, strict=True)
        ]
        limits = bootstrap_limits(
            steps[0], _SHARES, session_length=SESSION_LENGTH, requests=requests, rng=rng
        )
        found[name] = OneNumberCharts(steps[1], steps[2], np.append(limits, np.inf))
    found["oracle"] = OneNumberCharts(
        _told(numbers[1], recent, step=-1.0), _told(numbers[2], recent, step=1.0), np.array([0.1, np.inf])
    )
    return found


def _numbers(rows: Sequence[LabelledTexts], embedder: Embedder) -> Iterator[tuple[str, list[Floats]]]:
    """Yield each baseline's number of known, fresh and shifted rows."""
    yield "prompt_length", [np.array([float(len(text)) for text in each.texts]) for each in rows]
    yield "complexity_heuristic", [np.array([complexity(text) for text in each.texts]) for each in rows]
    vectors = [np.stack([embedder.embed(routing_text(text)) for text in each.texts]) for each in rows]
    yield (
        "knn",
        [nearest_similarity(each, vectors[0], itself=number == 0) for number, each in enumerate(vectors)],
    )


def _told(labels: NDArray[np.intp], recent: int, *, step: float) -> StepRows:
    """Return the steps of a chart that is told which requests are new."""
    return StepRows(
        ranks=np.full((labels.size, 1), step),
        cluster=np.zeros(labels.size, dtype=np.intp),
        topic=labels,
        own=np.zeros(1),
        other=0.0,
        recent=recent,
        labels=labels,
    )
