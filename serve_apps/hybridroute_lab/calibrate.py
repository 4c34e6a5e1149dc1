"""`hybridroute calibrate` as a function: labelled prompts in, one artifact and a report out.

The order of things is the promise: split; learn scores, blend, calibration, scope gate and thresholds from one
part; freeze them in the artifact's bytes; only then open the other part, score it with the reloaded artifact, and
count. Nothing learned is touched after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from hybridroute_lab.certification.margins import choose_margins, count_margins
from hybridroute_lab.certification.table import certify_thresholds, choose_thresholds
from hybridroute_lab.drift.limits import fit_drift_baseline
from hybridroute_lab.feature_table import SCOPE_BITS, FeatureTable, Progress, build_feature_table, no_progress
from hybridroute_lab.fitting.blend import FittedBlend, fit_blend
from hybridroute_lab.fitting.scope import ScopePlan, fit_clusters, fit_scope
from hybridroute_lab.near_duplicates import count_near_duplicates, group_repeats
from hybridroute_lab.scoring import ScoredRows, score_prompts
from hybridroute_lab.tables import DataError, LabelledTexts, Outcomes
from hybridroute_serve.routing.artifact.file import Arrays, decode_artifact, encode_artifact
from hybridroute_serve.routing.artifact.header import (
    FORMAT_VERSION,
    MAX_ARTIFACT_BYTES,
    ArtifactHeader,
    RowCounts,
)
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.artifact.text_features import FEATURES_VERSION
from hybridroute_serve.routing.embedding import Embedder

__all__ = ["CalibrateOptions", "calibrate_labels", "calibrate_outcomes", "certify_artifact", "split_rows"]

MIN_ROWS = 50
"""Below this no split leaves anything to learn from or to certify with."""

MAX_FIT_ROWS = 50_000
"""More rows are certified with, but not learned from: the scores stop improving and memory does not."""

MAX_CERTIFY_ROWS = 50_000
"""Of more rows so many are drawn to certify with: 5 % seen are bounded by 5.49 %, with 150,000 by 5.33 %."""

_SPLIT_STREAM = 1  # a stream of random numbers of its own
_MAX_PROTOTYPES = 3_000
_EXAMPLE_CHARACTERS = 200
_OTHER_BYTES = 220 * 1024  # two forests, hashed weights, the tables of the promise and of drift
_BYTES_PER_WEIGHT = 0.32
_BYTES_PER_PROTOTYPE = 125.0
_NO_OUTCOMES = "in-domain labels alone carry no promise"
_NO_CERTIFICATION = "no rows were kept for certification"


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What the owner of a route decides."""

    seed: int = 0
    certify_share: float = 0.5
    """Share of the rows that is kept for certification; 0 makes an artifact without a promise."""
    target_false_alarm: float = 0.02
    """Share of in-scope requests that the scope gate may turn away."""
    scope_held_out_share: float = 0.1
    """Share of labelled rows that sets the scope threshold."""
    keep_texts: bool = False
    """Store the texts of prototypes in the artifact, so that decisions can name the nearest example."""
    models: dict[str, str] = field(default_factory=dict)
    """Digests of what the outcomes were made with, see `ArtifactHeader.models`."""
    drift_limits: bool = True
    """False leaves the drift charts out, which take seconds to calibrate."""
    margin_tokens: int = 16
    """Tokens of an answer that the rows' margins were taken of; of no meaning without margins."""
    workers: int = 1
    """Processes that read and score rows. The artifact does not depend on it."""


def calibrate_outcomes(
    outcomes: Outcomes,
    embedder: Embedder,
    created: date,
    options: CalibrateOptions | None = None,
    *,
    progress: Progress = no_progress,
) -> bytes:
    """Make an artifact from prompts with two outcomes. Raises `DataError` for rows that cannot carry one."""
    chosen = options or CalibrateOptions()
    _check_outcomes(outcomes)
    rng = np.random.default_rng(chosen.seed)
    fit_rows, certify_rows = split_rows(len(outcomes.prompts), chosen)
    if fit_rows.size > MAX_FIT_ROWS:
        fit_rows = np.sort(rng.choice(fit_rows, MAX_FIT_ROWS, replace=False))
    fit = outcomes.take(fit_rows)
    table = build_feature_table(
        fit.prompts, embedder, progress, labels=fit.labels is not None, workers=chosen.workers
    )
    blend = fit_blend(
        table,
        gains=fit.strong - fit.weak,
        regrets=fit.regret,
        groups=group_repeats(fit.prompts),
        rng=rng,
        progress=progress,
    )
    frozen = _Frozen(
        rows=RowCounts(len(outcomes.prompts), fit_rows.size, 0, 0, graded=outcomes.graded),
        blend=blend,
        options=chosen,
        embedder=embedder,
        created=created,
    )
    data, unseen = _fit_and_encode(frozen, table, fit.prompts, fit.labels, rng=rng, progress=progress)
    thresholds = choose_thresholds(blend.confidence, graded=outcomes.graded)
    if fit.margins is not None:
        margins = choose_margins(thresholds, blend.confidence, fit.margins, chosen.margin_tokens)
        artifact = decode_artifact(data)
        data = encode_artifact(structs.replace(artifact.header, margins=margins), artifact.arrays)
    if certify_rows.size:
        held = outcomes.take(certify_rows)
        return _certify(
            data,
            held,
            thresholds,
            embedder,
            seen=table.vectors,
            progress=progress,
            drift=chosen.drift_limits,
            workers=chosen.workers,
        )
    if chosen.drift_limits and unseen.size:
        held = fit.take(unseen)
        scorer = ArtifactScorer.from_bytes(data, embedder)
        return _add_drift(data, score_prompts([scorer], held.prompts, embedder)[0], held.labels)
    return data


def calibrate_labels(
    texts: LabelledTexts,
    embedder: Embedder,
    created: date,
    options: CalibrateOptions | None = None,
    *,
    progress: Progress = no_progress,
) -> bytes:
    """Make an artifact from in-domain labels alone: a scope gate, and no promise."""
    chosen = options or CalibrateOptions()
    if len(texts.texts) < MIN_ROWS:
        raise DataError(f"{len(texts.texts)} rows; a scope gate needs at least {MIN_ROWS}")
    rng = np.random.default_rng(chosen.seed)
    rows = np.arange(len(texts.texts))
    if rows.size > MAX_FIT_ROWS:
        rows = np.sort(rng.choice(rows, MAX_FIT_ROWS, replace=False))
    kept = texts.take(rows)
    table = build_feature_table(kept.texts, embedder, progress, workers=chosen.workers)
    frozen = _Frozen(
        rows=RowCounts(len(texts.texts), rows.size, 0, 0),
        blend=None,
        options=chosen,
        embedder=embedder,
        created=created,
    )
    data, unseen = _fit_and_encode(frozen, table, kept.texts, kept.labels, rng=rng, progress=progress)
    if chosen.drift_limits and unseen.size:
        held = kept.take(unseen)
        scorer = ArtifactScorer.from_bytes(data, embedder)
        return _add_drift(data, score_prompts([scorer], held.texts, embedder)[0], held.labels)
    return data


def certify_artifact(
    data: bytes,
    outcomes: Outcomes,
    embedder: Embedder,
    created: date,
    models: dict[str, str],
    *,
    workers: int = 1,
    progress: Progress = no_progress,
) -> bytes:
    """Certify an artifact anew on fresh outcomes: its scores stay, table, date and given models are replaced.

    The rows must not have been learned from. Raises `DataError` and kinds of `ArtifactError`.
    """
    artifact = decode_artifact(data)
    if artifact.header.calibration is None:
        raise DataError("the artifact has no confidence to certify: calibrate it with outcomes first")
    _check_outcomes(outcomes)
    old = artifact.header.promise
    if old is not None:
        thresholds = np.array([point.threshold for point in old.points])
    else:
        thresholds = choose_thresholds(np.linspace(0.0, 1.0, 1_001), graded=outcomes.graded)
    renewed = encode_artifact(
        structs.replace(artifact.header, models=artifact.header.models | models, created=created.isoformat()),
        artifact.arrays,
    )
    drift = artifact.header.drift is not None
    return _certify(
        renewed,
        outcomes,
        thresholds,
        embedder,
        seen=np.zeros((0, 0), dtype=np.float32),
        progress=progress,
        drift=drift,
        workers=workers,
    )


@dataclass(frozen=True, slots=True)
class _Frozen:
    """What is settled before the scope gate is fitted and the artifact written."""

    rows: RowCounts
    blend: FittedBlend | None
    options: CalibrateOptions
    embedder: Embedder
    created: date


def split_rows(count: int, options: CalibrateOptions) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows to learn from and the rows that are kept for certification."""
    order = np.random.default_rng([options.seed, _SPLIT_STREAM]).permutation(count)
    certify_count = round(options.certify_share * count)
    return np.sort(order[certify_count:]), np.sort(order[:certify_count])


def _certify(
    data: bytes,
    held: Outcomes,
    thresholds: NDArray[np.float64],
    embedder: Embedder,
    *,
    seen: NDArray[np.float32],
    progress: Progress,
    drift: bool,
    workers: int,
) -> bytes:
    """Open the certification rows: score them with the reloaded artifact, count, and write the table."""
    if len(held.prompts) > MAX_CERTIFY_ROWS:
        drawn = np.random.default_rng(0).choice(len(held.prompts), MAX_CERTIFY_ROWS, replace=False)
        held = held.take(np.sort(drawn))
    scorer = ArtifactScorer.from_bytes(data, embedder)
    scored = score_prompts([scorer], held.prompts, embedder, progress, workers=workers)[0]
    promise = certify_thresholds(thresholds, scored.confidence, held.weak, held.strong)
    header = scorer.header
    rows = structs.replace(
        header.rows,
        certify=len(held.prompts),
        repeated=len(held.prompts) - int(group_repeats(held.prompts).max()) - 1,
        near_duplicates=count_near_duplicates(scored.vectors, seen, np.random.default_rng(0)),
        graded=header.rows.graded or held.graded,
    )
    note = f"certified on {len(held.prompts)} rows that nothing was learned from"
    artifact = decode_artifact(data)
    margins = header.margins
    if margins is not None and held.margins is not None:
        margins = count_margins(margins, scored.confidence, held.regret, held.margins)
    renewed = structs.replace(header, rows=rows, promise=promise, promise_note=note, margins=margins)
    certified = encode_artifact(renewed, artifact.arrays)
    return _add_drift(certified, scored, held.labels) if drift else certified


def _add_drift(data: bytes, scored: ScoredRows, labels: tuple[str, ...] | None) -> bytes:
    artifact = decode_artifact(data)
    baseline = fit_drift_baseline(scored, labels, len(artifact.arrays["clusters.centroids"]))
    return encode_artifact(structs.replace(artifact.header, drift=baseline), artifact.arrays)


def _check_outcomes(outcomes: Outcomes) -> None:
    count = len(outcomes.prompts)
    if count < MIN_ROWS:
        raise DataError(
            f"{count} rows; calibration needs at least {MIN_ROWS}, and about 1,500 to promise 5 %"
        )
    if np.ptp(outcomes.strong - outcomes.weak) == 0.0:
        raise DataError(
            "the two outcomes differ by the same amount in every row, so there is nothing to learn: "
            "check that the columns of the small and the large model are the right ones"
        )


def _fit_and_encode(
    frozen: _Frozen,
    table: FeatureTable,
    prompts: Sequence[str],
    labels: tuple[str, ...] | None,
    *,
    rng: np.random.Generator,
    progress: Progress,
) -> tuple[bytes, NDArray[np.intp]]:
    """Fit the scope gate, as large as the file allows, and write the artifact without a promise.

    Also returns the rows that nothing of it was fitted on.
    """
    options = frozen.options
    plan = ScopePlan(
        options.target_false_alarm,
        options.scope_held_out_share,
        _prototype_budget(labels, prompts, dimensions=table.vectors.shape[1], keep_texts=options.keep_texts),
    )
    scope = fit_scope(table, labels, plan, rng, progress)
    arrays: Arrays = {**scope.arrays, "clusters.centroids": fit_clusters(table.vectors, rng)}
    if frozen.blend is not None:
        arrays |= frozen.blend.arrays
    examples = (
        [prompts[row][:_EXAMPLE_CHARACTERS] for row in scope.prototype_rows] if options.keep_texts else []
    )
    header = ArtifactHeader(
        format_version=FORMAT_VERSION,
        features_version=FEATURES_VERSION,
        embedding=frozen.embedder.digest,
        embedding_name=frozen.embedder.name,
        created=frozen.created.isoformat(),
        models=options.models,
        rows=structs.replace(frozen.rows, scope_held_out=scope.held_out.size),
        labels=scope.labels,
        calibration=None if frozen.blend is None else frozen.blend.calibration,
        promise=None,
        promise_note=_NO_OUTCOMES if frozen.blend is None else _NO_CERTIFICATION,
        scope=scope.header,
        drift=None,
        examples=tuple(examples),
    )
    unseen = scope.held_out if scope.labels else np.zeros(0, dtype=np.intp)
    return encode_artifact(header, arrays), unseen


def _prototype_budget(
    labels: tuple[str, ...] | None, prompts: Sequence[str], *, dimensions: int, keep_texts: bool
) -> int:
    """Return how many prototypes fit beside the rest of the file, from what arrays compress to."""
    names = len(set(labels)) if labels is not None else 0
    width = dimensions + 2 * (1 << SCOPE_BITS)
    room = MAX_ARTIFACT_BYTES - _OTHER_BYTES - int(_BYTES_PER_WEIGHT * width * names)
    each = _BYTES_PER_PROTOTYPE
    if keep_texts:
        sample = prompts[:2_000]
        each += 8 + sum(min(_EXAMPLE_CHARACTERS, len(prompt)) for prompt in sample) / len(sample) * 1.2
    return max(names, 1, min(_MAX_PROTOTYPES, int(room / each)))
