"""The scope gate: whether a text resembles anything the route knows, and what it resembles most. Numpy only.

Two scores, standardised on held-out rows and added: the highest margin of linear classifiers over the embedding
and hashed words and characters (when the route has labels), and the similarity to the nearest prototype. The sum
is squeezed into 0 to 1, because the gate's threshold is a share of that scale and nothing hangs on the unit.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_serve.routing.artifact.header import ScopeHeader
from hybridroute_serve.routing.artifact.heads import bucket_values, dequantise_idf
from hybridroute_serve.routing.artifact.text_features import Hashes, TextFeatures
from hybridroute_serve.routing.embedding import Vector

__all__ = ["LinearScope", "NearestScope", "ScopeGate", "ScopeScore"]

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ScopeScore:
    """What the scope gate says of a text."""

    score: float
    """0 to 1; the higher, the more it looks like what the route knows."""
    label: int
    """Index of the label it resembles most; of the prototype where the route has no labels."""
    prototype: int
    """Index of the nearest prototype."""


@dataclass(frozen=True, slots=True)
class NearestScope:
    """Cosine similarity to the nearest prototype, in the directions of largest variance."""

    mean: Floats
    components: Floats
    prototypes: Floats
    """One row a prototype, of length 1."""
    labels: NDArray[np.intp]
    """The label of each prototype."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "NearestScope":
        """Rebuild from the arrays called `nearest.*`."""
        rows = arrays["nearest.prototypes"].astype(np.float32)
        lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return cls(
            arrays["nearest.mean"].astype(np.float32),
            arrays["nearest.components"].astype(np.float32),
            rows / lengths,
            arrays["nearest.labels"].astype(np.intp),
        )

    def find(self, vector: Vector) -> tuple[float, int]:
        """Return the similarity and the index of the nearest prototype."""
        turned = (vector - self.mean) @ self.components
        length = float(np.sqrt(turned @ turned))
        if length == 0.0 or not vector.any():
            return -1.0, 0
        similarities = self.prototypes @ turned
        nearest = int(similarities.argmax())
        return float(similarities[nearest]) / length, nearest


@dataclass(frozen=True, slots=True)
class LinearScope:
    """One linear classifier a label, over the embedding and hashed words and characters."""

    bits: int
    words_idf: Floats
    characters_idf: Floats
    weights: Floats
    """One row an input: 256 of the embedding, then words, then characters."""
    intercepts: Floats

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "LinearScope":
        """Rebuild from the arrays called `linear.*`."""
        weights = arrays["linear.weights"].astype(np.float32) * arrays["linear.scale"].astype(np.float32)
        words = dequantise_idf(arrays["linear.words_idf"])
        return cls(
            int(words.size).bit_length() - 1,
            words,
            dequantise_idf(arrays["linear.characters_idf"]),
            weights,
            arrays["linear.intercepts"].astype(np.float32),
        )

    def inputs(self, features: TextFeatures, vector: Vector) -> Floats:
        """Return the classifiers' inputs."""
        row = np.zeros(self.weights.shape[0], dtype=np.float32)
        row[: vector.size] = vector
        width = 1 << self.bits
        fill_hashed(row[vector.size : vector.size + width], features.words, self.words_idf)
        fill_hashed(row[vector.size + width :], features.folded_characters, self.characters_idf)
        return row

    def margins(self, features: TextFeatures, vector: Vector) -> Floats:
        """Return one margin a label."""
        margins: Floats = self.inputs(features, vector) @ self.weights + self.intercepts
        return margins


def fill_hashed(row: Floats, hashes: Hashes, idf: Floats) -> None:
    """Write the weighted buckets of a text into `row`, with length 1."""
    touched, values = bucket_values(hashes, int(idf.size).bit_length() - 1)
    values = values * idf[touched]
    length = float(np.sqrt(values @ values))
    if length > 0.0:
        row[touched] = values / np.float32(length)


@dataclass(frozen=True, slots=True)
class ScopeGate:
    """Both scores together."""

    header: ScopeHeader
    nearest: NearestScope
    linear: LinearScope | None

    @classmethod
    def from_arrays(cls, header: ScopeHeader, arrays: Mapping[str, NDArray[Any]]) -> "ScopeGate":
        """Rebuild the gate of an artifact."""
        linear = LinearScope.from_arrays(arrays) if "linear.weights" in arrays else None
        return cls(header, NearestScope.from_arrays(arrays), linear)

    def parts(self, features: TextFeatures, vector: Vector) -> tuple[float, float, int, int]:
        """Return margin, similarity, label and prototype, before any standardising."""
        similarity, prototype = self.nearest.find(vector)
        if self.linear is None:
            return 0.0, similarity, int(self.nearest.labels[prototype]), prototype
        margins = self.linear.margins(features, vector)
        label = int(margins.argmax())
        return float(margins[label]), similarity, label, prototype

    def score(self, features: TextFeatures, vector: Vector) -> ScopeScore:
        """Return what the gate says of one text; one without any token scores 0."""
        margin, similarity, label, prototype = self.parts(features, vector)
        if not vector.any():
            return ScopeScore(0.0, label, prototype)
        total = (similarity - self.header.nearest_mean) / self.header.nearest_std
        if self.linear is not None:
            total += (margin - self.header.margin_mean) / self.header.margin_std
        squeezed = (total - self.header.total_mean) / self.header.total_std
        return ScopeScore(1.0 / (1.0 + math.exp(-max(-500.0, squeezed))), label, prototype)
