"""Fits the scope gate: linear classifiers where there are labels, prototypes always, and a threshold.

The threshold comes from rows that the gate it is measured with has not seen: on fitted rows a nearest-neighbour
score is worthless. With labels a share of the rows is held out for good; without, the prototypes are fitted
again without each fold, which costs nothing and can only turn away fewer requests than it says.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray
from scipy import sparse
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.svm import LinearSVC

from hybridroute_lab.feature_table import FeatureTable, Progress, no_progress
from hybridroute_lab.fitting.inputs import fit_basis, fit_idf, weigh_hashed
from hybridroute_lab.fitting.quantise import quantise_columns, quantise_vector
from hybridroute_serve.routing.artifact.header import ScopeHeader
from hybridroute_serve.routing.artifact.scope import NearestScope

__all__ = ["FittedScope", "ScopePlan", "fit_clusters", "fit_scope"]

Floats = NDArray[np.float32]

_DIRECTIONS = 128
_FOLDS = 4
_MAX_CLASSIFIER_ROWS = 20_000
_CLUSTERS = 16
_MAX_EXACT_PAIRS = 5_000_000  # points times centres; 4,500 points and 3,000 centres took 6 s a fit


@dataclass(frozen=True, slots=True)
class ScopePlan:
    """What the gate is asked for, and how large it may be."""

    target_false_alarm: float
    """Share of in-scope rows that may be turned away."""
    held_out_share: float
    """Share of labelled rows that set the threshold."""
    prototypes: int
    """Prototypes in all."""


@dataclass(frozen=True, slots=True)
class FittedScope:
    """What the scope gate is made of."""

    arrays: dict[str, NDArray[Any]]
    header: ScopeHeader
    labels: tuple[str, ...]
    """Empty without labels."""
    prototype_rows: NDArray[np.intp]
    """For each prototype the row that it stands for, or is nearest to."""
    held_out: NDArray[np.intp]
    """Rows that nothing of the gate was fitted on; all rows where it was cross-fitted."""


def fit_scope(
    table: FeatureTable,
    labels: tuple[str, ...] | None,
    plan: ScopePlan,
    rng: np.random.Generator,
    progress: Progress = no_progress,
) -> FittedScope:
    """Fit the gate to in-domain rows. Labels that occur once or twice carry a classifier as any other."""
    names = tuple(sorted(set(labels))) if labels is not None else ()
    if labels is None or len(names) < 2:
        return _fit_without_labels(table, plan, rng, progress)
    index = {name: number for number, name in enumerate(names)}
    numbers = np.array([index[label] for label in labels], dtype=np.intp)
    return _fit_with_labels(table, numbers, names, plan=plan, rng=rng, progress=progress)


def fit_clusters(vectors: Floats, rng: np.random.Generator) -> NDArray[np.float16]:
    """Return the centroids, of length 1, whose shares the drift charts watch."""
    count = min(_CLUSTERS, vectors.shape[0])
    model = MiniBatchKMeans(
        count, n_init=3, random_state=int(rng.integers(2**31)), batch_size=2_048, compute_labels=False
    ).fit(vectors)
    centroids = model.cluster_centers_
    lengths = np.linalg.norm(centroids, axis=1, keepdims=True)
    scaled: NDArray[np.float16] = (centroids / np.where(lengths > 0.0, lengths, 1.0)).astype(np.float16)
    return scaled


def _fit_with_labels(
    table: FeatureTable,
    numbers: NDArray[np.intp],
    names: tuple[str, ...],
    *,
    plan: ScopePlan,
    rng: np.random.Generator,
    progress: Progress,
) -> FittedScope:
    held_out = _hold_out(numbers, plan.held_out_share, rng)
    inside = np.setdiff1d(np.arange(len(table)), held_out)
    arrays, prototype_rows = _fit_prototypes(table.vectors, inside, numbers, budget=plan.prototypes, rng=rng)
    chosen = inside
    if inside.size > _MAX_CLASSIFIER_ROWS:
        chosen = np.sort(rng.choice(inside, _MAX_CLASSIFIER_ROWS, replace=False))
    progress("scope", 0, 1)
    arrays |= _fit_classifiers(table.take(chosen), numbers[chosen], len(names), int(rng.integers(2**31)))
    progress("scope", 1, 1)
    judged = held_out if held_out.size else inside
    rows = table.take(judged)
    margins = _margins(rows, arrays)
    similarities = _similarities(rows.vectors, arrays)
    accuracy = float((margins.argmax(axis=1) == numbers[judged]).mean())
    header = _set_threshold(similarities, margins.max(axis=1), plan.target_false_alarm)
    header = structs.replace(header, accuracy=accuracy)
    return FittedScope(arrays, header, names, prototype_rows, judged)


def _fit_without_labels(
    table: FeatureTable, plan: ScopePlan, rng: np.random.Generator, progress: Progress
) -> FittedScope:
    count = len(table)
    rows = np.arange(count)
    numbers = np.zeros(count, dtype=np.intp)
    similarities = np.zeros(count, dtype=np.float32)
    folds = rng.permutation(count) % _FOLDS
    for fold in range(_FOLDS):
        progress("scope", fold, _FOLDS + 1)
        inside, outside = rows[folds != fold], rows[folds == fold]
        if not inside.size or not outside.size:
            continue
        fitted, _ = _fit_prototypes(
            table.vectors, inside, numbers, budget=plan.prototypes, rng=rng, represent=False
        )
        similarities[outside] = _similarities(table.vectors[outside], fitted)
    arrays, prototype_rows = _fit_prototypes(table.vectors, rows, numbers, budget=plan.prototypes, rng=rng)
    progress("scope", _FOLDS + 1, _FOLDS + 1)
    arrays["nearest.labels"] = prototype_rows.astype(np.int32)
    header = _set_threshold(similarities, None, plan.target_false_alarm)
    return FittedScope(arrays, header, (), prototype_rows, rows)


def _hold_out(numbers: NDArray[np.intp], share: float, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return rows to hold out: a share of all, but never the last row of a label."""
    count = numbers.size
    wanted = round(share * count)
    left = np.bincount(numbers)
    chosen: list[int] = []
    for row in rng.permutation(count):
        if len(chosen) == wanted:
            break
        if left[numbers[row]] > 1:
            left[numbers[row]] -= 1
            chosen.append(int(row))
    return np.sort(np.array(chosen, dtype=np.intp))


def _fit_prototypes(
    vectors: Floats,
    rows: NDArray[np.intp],
    numbers: NDArray[np.intp],
    *,
    budget: int,
    rng: np.random.Generator,
    represent: bool = True,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.intp]]:
    """Return at most about `budget` prototypes: rows themselves where they fit, else centres of each label.

    Also returns the row that each stands for or is nearest to; without `represent` that of centres is -1.
    """
    basis = fit_basis(vectors[rows], min(_DIRECTIONS, vectors.shape[1]))
    turned = basis.centre(vectors[rows]) @ basis.components.astype(np.float32)
    turned = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)
    owners = numbers[rows]
    if rows.size <= budget:
        prototypes, labels, nearest = turned, owners, rows
    else:
        parts, part_labels, part_rows = [], [], []
        for label in np.unique(owners):
            mine = np.flatnonzero(owners == label)
            count = max(1, round(budget * mine.size / rows.size))
            points = turned[mine]
            centres = _centres(points, count, rng)
            parts.append(centres)
            part_labels.append(np.full(centres.shape[0], label, dtype=np.intp))
            if represent:
                part_rows.append(rows[mine[_find_nearest(points, centres)]])
            else:
                part_rows.append(np.full(centres.shape[0], -1, dtype=np.intp))
        prototypes = np.concatenate(parts)
        labels, nearest = np.concatenate(part_labels), np.concatenate(part_rows)
        prototypes = prototypes / np.maximum(np.linalg.norm(prototypes, axis=1, keepdims=True), 1e-9)
    stored, _ = quantise_vector(prototypes)
    arrays: dict[str, NDArray[Any]] = {
        "nearest.mean": basis.mean,
        "nearest.components": basis.components,
        "nearest.prototypes": stored,
        "nearest.labels": labels.astype(np.int32),
    }
    return arrays, nearest


def _centres(points: Floats, count: int, rng: np.random.Generator) -> Floats:
    if points.shape[0] <= count:
        return points
    seed = int(rng.integers(2**31))
    if points.shape[0] > 5_000 or points.shape[0] * count > _MAX_EXACT_PAIRS:
        # k-means++ would take minutes to choose where 3,000 centres begin, and as long to move them.
        model = MiniBatchKMeans(
            count,
            init="random",
            n_init=1,
            random_state=seed,
            batch_size=4_096,
            max_iter=5,
            compute_labels=False,
        ).fit(points)
    else:
        model = KMeans(count, n_init=1, random_state=seed, max_iter=30).fit(points)
    centres: Floats = model.cluster_centers_.astype(np.float32)
    return centres


def _find_nearest(points: Floats, centres: Floats) -> NDArray[np.intp]:
    """Return for each centre the point of its own, or of the highest similarity."""
    if points.shape[0] == centres.shape[0]:
        return np.arange(points.shape[0])
    return np.array([int((points @ centre).argmax()) for centre in centres], dtype=np.intp)


def _classifier_inputs(
    table: FeatureTable, words_idf: NDArray[np.uint8], characters_idf: NDArray[np.uint8]
) -> sparse.csr_array:
    return sparse.csr_array(
        sparse.hstack(
            [
                sparse.csr_array(table.vectors),
                weigh_hashed(table.scope_words, words_idf),
                weigh_hashed(table.scope_characters, characters_idf),
            ],
            format="csr",
        )
    )


def _fit_classifiers(
    table: FeatureTable, numbers: NDArray[np.intp], count: int, seed: int
) -> dict[str, NDArray[Any]]:
    words_idf, characters_idf = fit_idf(table.scope_words), fit_idf(table.scope_characters)
    rows = _classifier_inputs(table, words_idf, characters_idf)
    inputs = sparse.csr_array(  # scikit-learn reads 32-bit indices only
        (rows.data.astype(np.float64), rows.indices.astype(np.int32), rows.indptr.astype(np.int32)),
        shape=rows.shape,
    )
    model = LinearSVC(C=1.0, tol=0.1, max_iter=50, random_state=seed).fit(inputs, numbers)
    weights, intercepts = model.coef_.T, model.intercept_
    if count == 2:  # scikit-learn fits one classifier for two labels
        weights, intercepts = (
            np.concatenate([-weights, weights], axis=1),
            np.array([-intercepts[0], intercepts[0]]),
        )
    stored, scale = quantise_columns(weights, bits=4, clip=4.0)
    return {
        "linear.weights": stored,
        "linear.scale": scale,
        "linear.intercepts": intercepts.astype(np.float32),
        "linear.words_idf": words_idf,
        "linear.characters_idf": characters_idf,
    }


def _margins(table: FeatureTable, arrays: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    inputs = _classifier_inputs(table, arrays["linear.words_idf"], arrays["linear.characters_idf"])
    weights = arrays["linear.weights"].astype(np.float32) * arrays["linear.scale"]
    return np.asarray(inputs @ weights + arrays["linear.intercepts"])


def _similarities(vectors: Floats, arrays: dict[str, NDArray[Any]]) -> Floats:
    nearest = NearestScope.from_arrays(arrays)
    turned = (vectors - nearest.mean) @ nearest.components
    turned = turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-9)
    best = [
        (part @ nearest.prototypes.T).max(axis=1) for part in np.array_split(turned, len(turned) // 512 + 1)
    ]
    found: Floats = np.concatenate(best)
    return found


def _set_threshold(
    similarities: NDArray[np.floating], margins: NDArray[np.floating] | None, target: float
) -> ScopeHeader:
    """Return means, spreads and the threshold, so that at most the target share of fresh rows is turned away.

    Of n fresh rows the k-th lowest, k = floor(target (n + 1)), is undercut by the next row with probability at
    most the target. With fewer than 1 / target rows the lowest score is the threshold: a gate that turns away a
    little more than was asked for is worth more than none.
    """
    nearest_mean, nearest_std = _moments(similarities)
    total = (similarities - nearest_mean) / nearest_std
    margin_mean, margin_std = 0.0, 1.0
    if margins is not None:
        margin_mean, margin_std = _moments(margins)
        total = total + (margins - margin_mean) / margin_std
    total_mean, total_std = _moments(total)
    scores = 1.0 / (1.0 + np.exp(-(total - total_mean) / total_std))
    rank = max(1, int(target * (scores.size + 1)))
    threshold = float(np.sort(scores)[rank - 1]) if target > 0.0 else 0.0
    return ScopeHeader(
        threshold=threshold,
        target_false_alarm=target,
        held_out_false_alarm=float((scores < threshold).mean()),
        nearest_mean=nearest_mean,
        nearest_std=nearest_std,
        margin_mean=margin_mean,
        margin_std=margin_std,
        total_mean=total_mean,
        total_std=total_std,
    )


def _moments(values: NDArray[np.floating]) -> tuple[float, float]:
    spread = float(values.std())
    return float(values.mean()), spread if spread > 1e-9 else 1.0
