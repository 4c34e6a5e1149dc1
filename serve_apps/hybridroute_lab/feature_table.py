"""The features of many texts at once, as matrices, from the very functions that a route scores with."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from hybridroute_lab.row_workers import Progress, map_rows, no_progress
from hybridroute_serve.routing.artifact.heads import bucket_values
from hybridroute_serve.routing.artifact.text_features import Hashes, read_features
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.text import routing_text

__all__ = ["HEAD_BITS", "SCOPE_BITS", "FeatureTable", "Progress", "build_feature_table", "no_progress"]

HEAD_BITS = 14
"""Buckets of a confidence score's words, or characters: 2**14 weights of one byte."""

SCOPE_BITS = 10
"""Buckets of the scope gate's: each has a weight for every label. 1,024 lose 0.0005 AUROC against 16,384."""


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """One row a text."""

    vectors: NDArray[np.float32]
    shapes: NDArray[np.float32]
    words: sparse.csr_array
    characters: sparse.csr_array
    scope_words: sparse.csr_array
    """For the scope gate's classifiers, as `scope_characters`; both are empty where there are no labels to fit."""
    scope_characters: sparse.csr_array

    def __len__(self) -> int:
        return int(self.vectors.shape[0])

    def take(self, rows: NDArray[np.intp]) -> "FeatureTable":
        """Return some rows, in the given order."""
        return FeatureTable(
            self.vectors[rows],
            self.shapes[rows],
            self.words[rows],
            self.characters[rows],
            self.scope_words[rows],
            self.scope_characters[rows],
        )


class _SparseRows:
    """Grows a sparse matrix row by row."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._columns: list[NDArray[np.int32]] = []
        self._values: list[NDArray[np.float32]] = []
        self._ends = [0]

    def append(self, hashes: Hashes) -> None:
        touched, values = bucket_values(hashes, self._bits)
        self._columns.append(touched.astype(np.int32))
        self._values.append(values)
        self._ends.append(self._ends[-1] + touched.size)

    def build(self) -> sparse.csr_array:
        shape = (len(self._columns), 1 << self._bits)
        ends = np.array(self._ends, dtype=np.int64)
        return sparse.csr_array(
            (np.concatenate(self._values), np.concatenate(self._columns), ends), shape=shape
        )


def build_feature_table(
    prompts: Sequence[str],
    embedder: Embedder,
    progress: Progress = no_progress,
    *,
    labels: bool = True,
    workers: int = 1,
) -> FeatureTable:
    """Read every prompt as the router would; `labels` tells whether the rows have any."""
    work = partial(_read_rows, embedder=embedder, labels=labels)
    parts = list(
        map_rows(work, prompts, workers=workers, stage="reading", progress=progress, slow=embedder.is_slow)
    )
    return FeatureTable(
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.shapes for part in parts]),
        _stacked([part.words for part in parts]),
        _stacked([part.characters for part in parts]),
        _stacked([part.scope_words for part in parts]),
        _stacked([part.scope_characters for part in parts]),
    )


def _read_rows(prompts: Sequence[str], *, embedder: Embedder, labels: bool) -> FeatureTable:
    vectors = []
    shapes = []
    words, characters = _SparseRows(HEAD_BITS), _SparseRows(HEAD_BITS)
    scope_words, scope_characters = _SparseRows(SCOPE_BITS), _SparseRows(SCOPE_BITS)
    for prompt in prompts:
        text = routing_text(prompt)
        features = read_features(text, labels=labels)
        vectors.append(embedder.embed(text))
        shapes.append(features.shape)
        words.append(features.words)
        characters.append(features.characters)
        scope_words.append(features.words if labels else features.folded_characters)
        scope_characters.append(features.folded_characters)
    return FeatureTable(
        np.stack(vectors),
        np.stack(shapes),
        words.build(),
        characters.build(),
        scope_words.build(),
        scope_characters.build(),
    )


def _stacked(parts: Sequence[sparse.csr_array]) -> sparse.csr_array:
    return sparse.csr_array(sparse.vstack(parts, format="csr"))
