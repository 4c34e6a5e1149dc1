"""Extremely randomised trees over binned numbers, and the arrays that hold two such forests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import ExtraTreeRegressor
from sklearn.utils import check_random_state

__all__ = ["Forest", "fit_forest", "forest_arrays"]

_TREES = 100
_MAX_LEAVES = 48
_MAX_DEPTH = 12  # each level costs every decision 4 us
_MIN_ROWS_IN_LEAF = 8
_FEATURE_SHARE = 0.2
_MAX_ROWS = 8_000


@dataclass(frozen=True, slots=True)
class Forest:
    """A fitted forest."""

    trees: tuple[Any, ...]
    """Scikit-learn's `tree_` of each."""

    def predict(self, bins: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return one prediction a row."""
        rows = bins.astype(np.float32)
        total = np.zeros(rows.shape[0])
        for tree in self.trees:
            total += tree.predict(rows)[:, 0]
        return total / len(self.trees)


def forest_arrays(first: Forest, second: Forest, edges: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return what `heads.Forests` is rebuilt from. Siblings lie side by side, parents before children."""
    feature: list[NDArray[Any]] = []
    cut: list[NDArray[Any]] = []
    left: list[NDArray[Any]] = []
    value: list[NDArray[Any]] = []
    depth = 0
    for tree in (*first.trees, *second.trees):
        order, children = _breadth_first(tree.children_left, tree.children_right)
        inner = tree.children_left[order] >= 0
        feature.append(np.where(inner, tree.feature[order], 0))
        cut.append(np.where(inner, np.floor(tree.threshold[order]), 0))
        left.append(children)
        value.append(tree.value[order, 0, 0])
        depth = max(depth, int(tree.max_depth))
    return {
        "forests.nodes": np.array([part.size for part in feature], dtype=np.uint16),
        "forests.feature": np.concatenate(feature).astype(np.uint8),
        "forests.cut": np.concatenate(cut).astype(np.uint8),
        "forests.left": np.concatenate(left).astype(np.uint16),
        "forests.value": np.concatenate(value).astype(np.float16),
        "forests.first": np.array([len(first.trees)], dtype=np.uint16),
        "forests.depth": np.array([depth], dtype=np.uint16),
        "forests.edges": edges,
    }


def fit_forest(bins: NDArray[np.uint8], targets: NDArray[np.float64], seed: int) -> Forest:
    """Fit a forest to targets of any scale. Of many rows a random 8,000 are enough for trees of 48 leaves.

    Tree by tree, as `ExtraTreesRegressor` would: copying and checking its trees takes it longer than fitting them.
    """
    if targets.size > _MAX_ROWS:
        chosen = np.random.default_rng(seed).choice(targets.size, _MAX_ROWS, replace=False)
        bins, targets = bins[chosen], targets[chosen]
    rows, wanted = bins.astype(np.float32), np.ascontiguousarray(targets, dtype=np.float64)
    seeds = check_random_state(seed).randint(np.iinfo(np.int32).max, size=_TREES)
    trees = []
    for own_seed in seeds.tolist():
        model = ExtraTreeRegressor(
            min_samples_leaf=_MIN_ROWS_IN_LEAF,
            max_leaf_nodes=_MAX_LEAVES,
            max_depth=_MAX_DEPTH,
            max_features=_FEATURE_SHARE,
            random_state=own_seed,
        )
        trees.append(model.fit(rows, wanted, check_input=False).tree_)
    return Forest(tuple(trees))


def _breadth_first(
    children_left: NDArray[np.intp], children_right: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the old index of each new node, and each new node's left child, 0 for leaves."""
    order = [0]
    left = []
    for node in order:
        if children_left[node] < 0:
            left.append(0)
            continue
        left.append(len(order))
        order.extend((int(children_left[node]), int(children_right[node])))
    return np.array(order, dtype=np.intp), np.array(left, dtype=np.intp)
