"""What each score of the blend, and each part of the scope gate, is worth alone and missing. For the docs."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_labels, calibrate_outcomes
from hybridroute_lab.evaluation.metrics import area_under_roc, cost_quality
from hybridroute_lab.evaluation.summary import summarise
from hybridroute_lab.tables import LabelledTexts, Outcomes
from hybridroute_serve.routing.artifact.heads import PART_NAMES
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.text import routing_text

__all__ = ["ablate_routing", "ablate_scope"]

Floats = NDArray[np.float64]

_NO_DATE = date(1970, 1, 1)  # throw-away artifacts; a report must not depend on the day


def ablate_routing(outcomes: Outcomes, embedder: Embedder, *, labels: int, seeds: int) -> dict[str, Any]:
    """Return APGR of the blend, of each score alone, and of the blend without each score."""
    found: dict[str, list[float]] = {}
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(outcomes.prompts))
        options = CalibrateOptions(seed=seed, certify_share=0.0, drift_limits=False)
        data = calibrate_outcomes(outcomes.take(order[:labels]), embedder, _NO_DATE, options)
        test = outcomes.take(order[labels:])
        parts = _parts(ArtifactScorer.from_bytes(data, embedder), test.prompts, embedder)
        rankings = {"all": parts.mean(axis=1)}
        for number, name in enumerate(PART_NAMES):
            rankings[f"only {name}"] = parts[:, number]
            rankings[f"without {name}"] = np.delete(parts, number, axis=1).mean(axis=1)
        for name, scores in rankings.items():
            found.setdefault(name, []).append(cost_quality(scores, test.weak, test.strong).apgr)
    return {name: summarise(values) for name, values in found.items()}


def ablate_scope(
    train: LabelledTexts, inside: LabelledTexts, outside: LabelledTexts, embedder: Embedder
) -> dict[str, float]:
    """Return AUROC of the gate and of its two parts."""
    data = calibrate_labels(train, embedder, _NO_DATE, CalibrateOptions(drift_limits=False))
    scorer = ArtifactScorer.from_bytes(data, embedder)
    known, other = (
        np.array([scorer.scope_parts(routing_text(text)) for text in rows.texts])
        for rows in (inside, outside)
    )
    return {
        name: round(area_under_roc(known[:, column], other[:, column]), 4)
        for column, name in enumerate(("margin", "nearest", "both"))
    }


def _parts(scorer: ArtifactScorer, prompts: Sequence[str], embedder: Embedder) -> Floats:
    rows = []
    for prompt in prompts:
        text = routing_text(prompt)
        parts = scorer.parts(scorer.read(text), embedder.embed(text))
        rows.append([parts[name] for name in PART_NAMES])
    return np.array(rows)
