"""The scores that are blended into a confidence: each turns a text's features into one number. Numpy only.

A high number means that the LLM is expected to do better than the SLM. Every score is rebuilt from quantised
arrays; what is scored here is what was stored, in the lab as on a route.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hybridroute_serve.routing.artifact.text_features import Hashes, TextFeatures
from hybridroute_serve.routing.embedding import Vector

__all__ = [
    "PART_NAMES",
    "BlendHeads",
    "EmbeddingInputs",
    "Forests",
    "HashedHead",
    "bucket_values",
    "dequantise_idf",
]

PART_NAMES = ("words", "characters", "embedding", "shape", "mixed")
"""The blend's scores: hashed words, hashed characters, embedding, shape, shape with embedding."""

Floats = NDArray[np.float32]

_LOGARITHMS = np.log1p(np.arange(16_384)).astype(np.float32)  # counts are bounded by the routing text's bytes


def bucket_values(hashes: Hashes, bits: int) -> tuple[NDArray[np.intp], Floats]:
    """Return the buckets that a text touches, ascending, and the logarithm of 1 + its count in each."""
    if not hashes.size:
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.float32)
    counts = np.bincount((hashes >> np.uint64(64 - bits)).view(np.intp), minlength=1 << bits)
    touched = np.flatnonzero(counts > 0)  # four times as fast as on the counts themselves
    return touched, _LOGARITHMS.take(counts.take(touched))


def dequantise_idf(stored: NDArray[np.uint8]) -> Floats:
    """Return inverse document frequencies from their bytes: 1 to 16."""
    return 1.0 + stored.astype(np.float32) * np.float32(15.0 / 255.0)


@dataclass(frozen=True, slots=True)
class HashedHead:
    """Linear in hashed words or characters, weighted by rarity and normalised."""

    bits: int
    idf: Floats
    weights: Floats

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], name: str) -> "HashedHead":
        """Rebuild from the arrays called `name.*`."""
        idf = dequantise_idf(arrays[f"{name}.idf"])
        weights = arrays[f"{name}.weights"].astype(np.float32) * arrays[f"{name}.scale"][0]
        return cls(int(idf.size).bit_length() - 1, idf, weights)

    def score(self, hashes: Hashes) -> float:
        """Return the score of one text's hashes; 0 for an empty one."""
        touched, values = bucket_values(hashes, self.bits)
        values = values * self.idf.take(touched)
        length = float(np.sqrt(values @ values))
        return float(values @ self.weights.take(touched)) / length if length > 0.0 else 0.0


@dataclass(frozen=True, slots=True)
class EmbeddingInputs:
    """Centres and turns a vector as the embedding's scores want it."""

    mean: Floats
    components: Floats
    """Columns are the directions of largest variance."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "EmbeddingInputs":
        """Rebuild from the arrays called `embedding.*`."""
        return cls(
            arrays["embedding.mean"].astype(np.float32), arrays["embedding.components"].astype(np.float32)
        )

    def centre(self, vector: Vector) -> Floats:
        """Return the centred vector with length 1, or zeros."""
        centred: Floats = vector - self.mean
        length = float(np.sqrt(centred @ centred))
        return centred / np.float32(length) if length > 0.0 else centred


@dataclass(frozen=True, slots=True)
class Forests:
    """Two forests over binned numbers, walked at once: one reads the text's shape, the other its topic as well.

    A node sends a text left when its number's bin is at most the node's cut. A leaf's child is itself and its
    cut is above every bin, so that walking on stays where it is.
    """

    edges: Floats
    """One row of ascending cuts a number: the shape's, then the embedding's main directions."""
    feature: NDArray[np.intp]
    cut: NDArray[np.uint8]
    left: NDArray[np.intp]
    """Index of the left child; the right child follows it."""
    value: Floats
    roots: NDArray[np.intp]
    first: int
    """Trees of the first forest."""
    depth: int

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Forests":
        """Rebuild from the arrays called `forests.*`."""
        sizes = arrays["forests.nodes"].astype(np.intp)
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.intp)
        inside = arrays["forests.left"].astype(np.intp)
        leaf = inside == 0
        own = np.arange(inside.size, dtype=np.intp)
        return cls(
            edges=arrays["forests.edges"].astype(np.float32),
            feature=arrays["forests.feature"].astype(np.intp),
            cut=np.where(leaf, np.uint8(255), arrays["forests.cut"]),
            left=np.where(leaf, own, np.repeat(roots, sizes) + inside),
            value=arrays["forests.value"].astype(np.float32),
            roots=roots,
            first=int(arrays["forests.first"][0]),
            depth=int(arrays["forests.depth"][0]),
        )

    def scores(self, numbers: Floats) -> tuple[float, float]:
        """Return the mean of each forest's trees."""
        bins = (numbers[:, None] > self.edges).sum(axis=1, dtype=np.uint8)
        at = self.roots
        for _ in range(self.depth):
            at = self.left.take(at) + (bins.take(self.feature.take(at)) > self.cut.take(at))
        values = self.value[at]
        return float(values[: self.first].mean()), float(values[self.first :].mean())


@dataclass(frozen=True, slots=True)
class BlendHeads:
    """All scores of the blend."""

    words: HashedHead
    characters: HashedHead
    inputs: EmbeddingInputs
    embedding_weights: Floats
    forests: Forests

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "BlendHeads":
        """Rebuild from an artifact's arrays."""
        return cls(
            HashedHead.from_arrays(arrays, "words"),
            HashedHead.from_arrays(arrays, "characters"),
            EmbeddingInputs.from_arrays(arrays),
            arrays["embedding.weights"].astype(np.float32),
            Forests.from_arrays(arrays),
        )

    def scores(self, features: TextFeatures, vector: Vector) -> tuple[float, ...]:
        """Return the scores of one text in the order of `PART_NAMES`."""
        centred = self.inputs.centre(vector)
        numbers = np.concatenate([features.shape, centred @ self.inputs.components])
        return (
            self.words.score(features.words),
            self.characters.score(features.characters),
            float(centred @ self.embedding_weights),
            *self.forests.scores(numbers),
        )
