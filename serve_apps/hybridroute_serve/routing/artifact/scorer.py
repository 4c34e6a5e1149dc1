"""Scores a routing text with an artifact: confidence, scope, the nearest known label and the text's cluster.

Made once per artifact from its bytes, shared between tasks. The lab scores with this very class, on the reloaded
bytes, so that a number in a report is a number on a route.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hybridroute_serve.routing.artifact.errors import ArtifactCorruptError, ArtifactEmbeddingError
from hybridroute_serve.routing.artifact.file import ArtifactFile, decode_artifact
from hybridroute_serve.routing.artifact.header import ArtifactHeader
from hybridroute_serve.routing.artifact.heads import PART_NAMES, BlendHeads
from hybridroute_serve.routing.artifact.scope import ScopeGate
from hybridroute_serve.routing.artifact.text_features import TextFeatures, read_features
from hybridroute_serve.routing.embedding import Embedder, EmbeddingUnavailableError, Vector

__all__ = ["ArtifactScorer", "ArtifactScores", "check_artifact", "load_artifact"]


@dataclass(frozen=True, slots=True)
class ArtifactScores:
    """The numbers behind one decision."""

    confidence: float | None
    """1 - P(SLM wrong and LLM right); None when the artifact has no outcomes to say so."""
    scope: float
    """0 to 1, to be compared with the artifact's scope threshold."""
    nearest: str
    """The known label, example or row that the text resembles most."""
    cluster: int
    """For the drift charts: which of the artifact's clusters the text belongs to."""
    topic: int
    """For the drift charts: what two requests of one session have in common, a label or a cluster."""


@dataclass(frozen=True, slots=True)
class _NamedEmbedding:
    """An embedding that is known by its digest alone, for whoever checks and does not score."""

    name: str
    digest: str
    is_slow: bool = False

    def embed(self, text: str) -> Vector:
        raise NotImplementedError("only the digest of this embedding is loaded")


def check_artifact(data: bytes, read_digest: Callable[[str], str]) -> ArtifactFile:
    """Return the artifact if the embedding that it names can be had here. Raises a kind of `ArtifactError`.

    `read_digest` returns that embedding's digest, or raises `EmbeddingUnavailableError`; nothing is loaded.
    """
    artifact = decode_artifact(data)
    load_artifact(artifact, lambda name: _NamedEmbedding(name, read_digest(name)))
    return artifact


def load_artifact(artifact: ArtifactFile, find: Callable[[str], Embedder]) -> "ArtifactScorer":
    """Make an artifact ready to score with the embedding that it names. Raises a kind of `ArtifactError`.

    `find` returns an embedding by its name, or raises `EmbeddingUnavailableError`.
    """
    name = artifact.header.embedding_name
    try:
        embedder = find(name)
    except EmbeddingUnavailableError as error:
        raise ArtifactEmbeddingError(f"the artifact was made with embedding {name}: {error}") from error
    return ArtifactScorer(artifact, embedder)


class ArtifactScorer:
    """An artifact, ready to score."""

    def __init__(self, artifact: ArtifactFile, embedder: Embedder) -> None:
        header = artifact.header
        if header.embedding != embedder.digest:
            raise ArtifactEmbeddingError(
                f"the artifact was made with embedding {header.embedding}, and {embedder.digest} is installed: "
                "calibrate again, or install the embedding it was made with"
            )
        self._artifact = artifact
        self._embedder = embedder
        try:
            self._gate = ScopeGate.from_arrays(header.scope, artifact.arrays)
            self._centroids = artifact.arrays["clusters.centroids"].astype(np.float32)
            calibrated = header.calibration is not None
            self._heads = BlendHeads.from_arrays(artifact.arrays) if calibrated else None
        except (KeyError, IndexError, ValueError) as error:
            raise ArtifactCorruptError(f"the artifact lacks a part: {error}") from error

    @classmethod
    def from_bytes(cls, data: bytes, embedder: Embedder) -> "ArtifactScorer":
        """Read, verify and rebuild. Raises a kind of `ArtifactError`."""
        return cls(decode_artifact(data), embedder)

    @property
    def header(self) -> ArtifactHeader:
        """What the artifact says of itself."""
        return self._artifact.header

    @property
    def digest(self) -> str:
        """Names the artifact."""
        return self._artifact.digest

    @property
    def file(self) -> ArtifactFile:
        """The artifact as it was read."""
        return self._artifact

    @property
    def embedder(self) -> Embedder:
        """The embedding that it scores with."""
        return self._embedder

    def score_text(self, text: str) -> ArtifactScores:
        """Embed and score a routing text."""
        return self.score(self.read(text), self._embedder.embed(text))

    def read(self, text: str) -> TextFeatures:
        """Return the features that this artifact's scores need."""
        return read_features(text, blend=self._heads is not None, labels=bool(self.header.labels))

    def score(self, features: TextFeatures, vector: Vector) -> ArtifactScores:
        """Score a text whose features and vector are known."""
        scope = self._gate.score(features, vector)
        cluster = int((self._centroids @ vector).argmax())
        return ArtifactScores(
            confidence=self.confidence(features, vector),
            scope=scope.score,
            nearest=self._name(scope.label, scope.prototype),
            cluster=cluster,
            topic=scope.label if self.header.labels else cluster,
        )

    def parts(self, features: TextFeatures, vector: Vector) -> dict[str, float]:
        """Return the blend's scores by name, standardised; for ablations and explanations."""
        calibration = self.header.calibration
        if calibration is None or self._heads is None:
            return {}
        scores = self._heads.scores(features, vector)
        known = zip(calibration.parts, scores, strict=True)
        return {part.name: (score - part.mean) / part.std for part, score in known}

    def confidence(self, features: TextFeatures, vector: Vector) -> float | None:
        """Return the calibrated confidence, or None."""
        calibration = self.header.calibration
        if calibration is None:
            return None
        blend = sum(self.parts(features, vector).values()) / len(PART_NAMES)
        logit = calibration.slope * blend + calibration.intercept
        return 1.0 / (1.0 + math.exp(min(500.0, max(-500.0, logit))))

    def scope_parts(self, text: str) -> tuple[float, float, float]:
        """Return the classifiers' highest margin, the nearest similarity and the scope score of a routing text."""
        features, vector = self.read(text), self._embedder.embed(text)
        margin, similarity, _, _ = self._gate.parts(features, vector)
        return margin, similarity, self._gate.score(features, vector).score

    def _name(self, label: int, prototype: int) -> str:
        header = self._artifact.header
        if header.labels:
            return header.labels[label]
        if header.examples:
            return header.examples[prototype]
        return f"row {label}"
