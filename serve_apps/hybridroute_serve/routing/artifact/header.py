"""The first line of an artifact: readable JSON that says what it is, what it promises and how it was made.

No user text is in it unless the user opted in. Wire types only; `file.py` reads and writes the whole.
"""

from typing import Any

import msgspec

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing.artifact.margins import MarginTable
from hybridroute_serve.routing.artifact.promise import PromiseTable

__all__ = [
    "FORMAT_VERSION",
    "MAX_ARTIFACT_BYTES",
    "ArraySpec",
    "ArtifactHeader",
    "BlendPart",
    "CalibrationHeader",
    "DriftBaseline",
    "RowCounts",
    "ScopeHeader",
    "header_document",
]

FORMAT_VERSION = 1

MAX_ARTIFACT_BYTES = 700 * 1024
"""So that it fits a ConfigMap, whose limit is 1 MiB after base64."""


class ArraySpec(msgspec.Struct, frozen=True):
    """Where an array lies in the payload and how to read it."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Bytes after the header's line."""
    size: int
    """Compressed bytes."""


class RowCounts(msgspec.Struct, frozen=True):
    """Rows by what they were used for."""

    given: int
    fit: int
    certify: int
    """Rows that nothing learned from: they carry the promise."""
    scope_held_out: int
    """Rows that set the scope threshold and the drift baselines."""
    repeated: int = 0
    """Certification rows whose prompt occurs among them before. Counted, not dropped: traffic repeats itself too."""
    near_duplicates: int = 0
    """Certification rows with a near-duplicate among the rows that were learned from."""
    graded: bool = False
    """True when labels lie between 0 and 1."""


class BlendPart(msgspec.Struct, frozen=True):
    """One score of the blend, standardised with these before it is averaged."""

    name: str
    mean: float
    std: float


class CalibrationHeader(msgspec.Struct, frozen=True):
    """`confidence = 1 - 1 / (1 + exp(-(slope * blend + intercept)))`; a high blend means that the LLM gains."""

    parts: tuple[BlendPart, ...]
    slope: float
    intercept: float


class ScopeHeader(msgspec.Struct, frozen=True):
    """The scope gate's numbers. A text is out of scope when its score is below the threshold."""

    threshold: float
    target_false_alarm: float
    """Share of in-scope rows that the threshold may turn away."""
    held_out_false_alarm: float
    """The share it turned away among the held-out rows."""
    nearest_mean: float
    nearest_std: float
    margin_mean: float = 0.0
    margin_std: float = 1.0
    total_mean: float = 0.0
    total_std: float = 1.0
    accuracy: float | None = None
    """Share of held-out rows whose label was named; None without labels."""


class DriftBaseline(msgspec.Struct, frozen=True):
    """What undrifted traffic looks like, and the charts' limits."""

    scope_quantiles: tuple[float, ...]
    confidence_quantiles: tuple[float, ...]
    """Empty when the artifact has no confidence."""
    cluster_shares: tuple[float, ...]
    limits: dict[str, float]
    """By chart; a chart that is not named does not run."""
    session_length: int
    """Requests of one session that look alike, which the limits allow for."""
    recent: int
    """Requests that are remembered, so that one which resembles them counts less."""
    rows: int


class ArtifactHeader(msgspec.Struct, frozen=True):
    """Everything but the arrays."""

    format_version: int
    features_version: int
    embedding: str
    """Digest of the embedding it was made with."""
    created: str
    """Date of the calibration, ISO 8601."""
    models: dict[str, str]
    """What the promise was made with: `slm` and `llm` by name, the rest by digest, see `validity`."""
    rows: RowCounts
    labels: tuple[str, ...]
    """Names of the scope gate's labels."""
    calibration: CalibrationHeader | None
    """None for in-domain labels or examples alone: no confidence, no promise."""
    promise: PromiseTable | None
    promise_note: str
    """Why there is a promise, or why there is none."""
    scope: ScopeHeader
    drift: DriftBaseline | None
    examples: tuple[str, ...] = ()
    """Texts of the prototypes, opted in by the user; else empty."""
    embedding_name: str = EmbeddingName.STATIC.value
    """Which embedding that is, an `EmbeddingName`; the static one where none is named, as before there were two."""
    margins: MarginTable | None = None
    """The cascade's thresholds; None where the labels had no margins."""
    arrays: dict[str, ArraySpec] = {}


def header_document(header: ArtifactHeader) -> dict[str, Any]:
    """Return the header as plain JSON values, without where the arrays lie."""
    document: dict[str, Any] = msgspec.to_builtins(header)
    document.pop("arrays")
    return document
