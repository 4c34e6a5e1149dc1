"""Small calibrated artifacts, made once per process: with a promise, of labels alone, with charts that ring soon."""

from datetime import date
from functools import cache

import numpy as np
from msgspec import structs

from hybridroute_api.serving import ArtifactPolicy
from hybridroute_api.vocabulary import DriftAction
from hybridroute_lab.calibrate import CalibrateOptions, calibrate_labels, calibrate_outcomes
from hybridroute_serve.routing.artifact.file import decode_artifact, encode_artifact
from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.drift.charts import LEVELS
from support.lab_rows import WordEmbedder, labelled_texts, outcomes

__all__ = [
    "MODELS",
    "artifact_policy",
    "certified",
    "labels_only",
    "of_embedding",
    "recertified",
    "with_charts",
]

MADE = date(2025, 1, 2)
MODELS = {"slm": "smollm2-135m", "llm": "big"}
"""Those of `policies.a_policy`."""


@cache
def certified(rows: int = 1_200) -> bytes:
    """An artifact that promises: billing and travel stay, cooking and devices do not."""
    options = CalibrateOptions(models=MODELS, drift_limits=False)
    return calibrate_outcomes(outcomes(rows), WordEmbedder(), MADE, options)


@cache
def labels_only() -> bytes:
    return calibrate_labels(labelled_texts(200), WordEmbedder(), MADE, CalibrateOptions(drift_limits=False))


@cache
def with_charts(limit: float = 4.0) -> bytes:
    """The certified artifact with a scope chart that rings after a few strange requests in a row."""
    data = certified()
    scorer = ArtifactScorer.from_bytes(data, WordEmbedder())
    scopes = [scorer.score_text(text).scope for text in labelled_texts(200, seed=9).texts]
    artifact = decode_artifact(data)
    clusters = len(artifact.arrays["clusters.centroids"])
    baseline = DriftBaseline(
        scope_quantiles=tuple(np.quantile(scopes, LEVELS).tolist()),
        confidence_quantiles=(),
        cluster_shares=(1.0 / clusters,) * clusters,
        limits={"scope": limit},
        session_length=1,
        recent=1,
        rows=200,
    )
    return encode_artifact(structs.replace(artifact.header, drift=baseline), artifact.arrays)


def recertified(data: bytes, created: str = "2025-02-03", **models: str) -> bytes:
    """The same artifact under another date, and perhaps of other models: another digest."""
    artifact = decode_artifact(data)
    header = structs.replace(artifact.header, created=created, models=artifact.header.models | models)
    return encode_artifact(header, artifact.arrays)


def of_embedding(data: bytes, name: str, digest: str, created: str = "2025-01-02") -> bytes:
    """The same artifact as if it had been made with another embedding of the same vectors."""
    artifact = decode_artifact(data)
    header = structs.replace(artifact.header, embedding_name=name, embedding=digest, created=created)
    return encode_artifact(header, artifact.arrays)


def artifact_policy(**changes: object) -> ArtifactPolicy:
    """What a live policy says of an artifact."""
    values: dict[str, object] = {
        "file": "support.artifact",
        "max_risk": 0.1,
        "delta": 0.1,
        "drift_action": DriftAction.TIGHTEN,
        "tighten_max_risk": 0.06,
    }
    return ArtifactPolicy.model_validate(values | changes)
