"""`hybridroute evaluate scope` as a function: does the gate know its labels, and what is none of them?

Baselines rank the same rows. What the gate gained over each is a paired difference with its standard deviation over
draws of those rows; what another sample to learn from would change is not in it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_labels
from hybridroute_lab.evaluation.baselines import nearest_similarity
from hybridroute_lab.evaluation.complexity import complexity
from hybridroute_lab.evaluation.metrics import area_gained, area_under_roc, false_positives_at
from hybridroute_lab.feature_table import Progress, no_progress
from hybridroute_lab.remembered import remember_slow
from hybridroute_lab.scoring import score_prompts, time_decisions
from hybridroute_lab.tables import LabelledTexts
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.text import routing_text

__all__ = ["ScopeEvaluation", "evaluate_scope"]

Floats = NDArray[np.float64]
Ranking = tuple[Floats, Floats]
"""Scores of the in-scope and of the out-of-scope rows, high for in scope."""

_TIMED_PROMPTS = 1_000
_NO_DATE = date(1970, 1, 1)  # throw-away artifacts; a report must not depend on the day


@dataclass(frozen=True, slots=True)
class ScopeEvaluation:
    """The report, and what its plot is drawn from."""

    report: dict[str, Any]
    """As `--json` prints it."""
    inside: Floats
    outside: Floats
    threshold: float


def evaluate_scope(
    train: LabelledTexts,
    inside: LabelledTexts,
    outside: LabelledTexts,
    embedder: Embedder,
    *,
    clock: Callable[[], float],
    progress: Progress = no_progress,
) -> ScopeEvaluation:
    """Fit on `train`, judge on in-scope and out-of-scope rows. Labels of the latter are not read."""
    options = CalibrateOptions(drift_limits=False)
    reader = remember_slow(embedder)
    data = calibrate_labels(train, reader, _NO_DATE, options, progress=progress)
    scorer = ArtifactScorer.from_bytes(data, reader)
    known = score_prompts([scorer], inside.texts, reader, progress)[0]
    other = score_prompts([scorer], outside.texts, reader, progress)[0]
    threshold = scorer.header.scope.threshold
    named = [name == label for name, label in zip(known.nearest, inside.labels, strict=True)]
    vectors = np.stack([reader.embed(routing_text(text)) for text in train.texts])
    timed = ArtifactScorer(scorer.file, embedder)
    gate = (known.scope, other.scope)
    lengths, complexities = (
        [np.array([float(measure(text)) for text in rows.texts]) for rows in (inside, outside)]
        for measure in (len, complexity)
    )
    baselines: dict[str, Ranking] = {
        "random": (np.zeros(known.scope.size), np.zeros(other.scope.size)),  # ties: any order's mean
        "prompt_length": _better_way(*lengths),
        "complexity_heuristic": _better_way(*complexities),
        "knn": (nearest_similarity(known.vectors, vectors), nearest_similarity(other.vectors, vectors)),
        "oracle": (np.ones(known.scope.size), np.zeros(other.scope.size)),
    }
    report = {
        "auroc": round(area_under_roc(known.scope, other.scope), 4),
        "fpr95": round(false_positives_at(0.95, known.scope, other.scope), 4),
        "accuracy": round(float(np.mean(named)), 4),
        "decision_us": {
            name: round(value, 1)
            for name, value in time_decisions(timed, inside.texts[:_TIMED_PROMPTS], clock).items()
        },
        "false_alarm": round(float((known.scope < threshold).mean()), 4),
        "caught": round(float((other.scope < threshold).mean()), 4),
        "target_false_alarm": options.target_false_alarm,
        "artifact_bytes": len(data),
        "baselines": {name: _compare(gate, ranking) for name, ranking in baselines.items()},
    }
    return ScopeEvaluation(report, known.scope, other.scope, threshold)


def _compare(gate: Ranking, baseline: Ranking) -> dict[str, Any]:
    mean, std = area_gained(gate, baseline)
    return {
        "auroc": round(area_under_roc(*baseline), 4),
        "auroc_gained": {"mean": round(mean, 4), "std": round(std, 4)},
    }


def _better_way(inside: Floats, outside: Floats) -> Ranking:
    """Return the ranking by "high is in scope" or by "low is in scope", whichever is better on these rows."""
    return (inside, outside) if area_under_roc(inside, outside) >= 0.5 else (-inside, -outside)
