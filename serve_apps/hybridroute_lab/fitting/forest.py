"""Extremely randomised trees over binned numbers, and the arrays that hold two such forests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

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

    model: Any

    def predict(self, bins: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return one prediction a row."""
        return np.asarray(self.model.predict(bins.astype(np.float32)))


def forest_arrays(first: Forest, second: Forest, edges: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Return what `heads.Forests` is rebuilt from. Siblings lie side by side, parents before children."""
    feature: list[NDArray[Any]] = []
    cut: list[NDArray[Any]] = []
    left: list[NDArray[Any]] = []
    value: list[NDArray[Any]] = []
    depth = 0
    for estimator in (*first.model.estimators_, *second.model.estimators_):
        tree = estimator.tree_
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
        "forests.first": np.array([len(first.model.estimators_)], dtype=np.uint16),
        "forests.depth": np.array([depth], dtype=np.uint16),
        "forests.edges": edges,
    }


def fit_forest(bins: NDArray[np.uint8], targets: NDArray[np.float64], seed: int) -> Forest:
    """Fit a forest to targets of any scale. Of many rows a random 8,000 are enough for trees of 48 leaves."""
    if targets.size > _MAX_ROWS:
        chosen = np.random.default_rng(seed).choice(targets.size, _MAX_ROWS, replace=False)
        bins, targets = bins[chosen], targets[chosen]
    model = ExtraTreesRegressor(
        _TREES,
        min_samples_leaf=_MIN_ROWS_IN_LEAF,
        max_leaf_nodes=_MAX_LEAVES,
        max_depth=_MAX_DEPTH,
        max_features=_FEATURE_SHARE,
        random_state=seed,
    )
    return Forest(model.fit(bins.astype(np.float32), targets))


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
