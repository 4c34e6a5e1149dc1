"""From labels to an artifact: what is in it, what it promises, and what cannot be made into one."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from hybridroute_lab import calibrate
from hybridroute_lab.calibrate import (
    CalibrateOptions,
    calibrate_labels,
    calibrate_outcomes,
    certify_artifact,
    split_rows,
)
from hybridroute_lab.scoring import score_prompts
from hybridroute_lab.tables import DataError
from hybridroute_serve.routing.artifact.errors import ArtifactCorruptError, ArtifactEmbeddingError
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.header import MAX_ARTIFACT_BYTES
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from support.lab_rows import WordEmbedder, labelled_texts, outcomes

MADE = date(2025, 1, 2)
QUICK = CalibrateOptions(drift_limits=False)


@pytest.fixture(scope="module")
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(scope="module")
def artifact(embedder: WordEmbedder) -> bytes:
    return calibrate_outcomes(outcomes(800), embedder, MADE, replace(QUICK, models={"slm": "a", "llm": "b"}))


def test_the_table_is_what_the_reloaded_artifact_says_of_the_rows_kept_back(
    artifact: bytes, embedder: WordEmbedder
) -> None:
    rows = outcomes(800)
    _, kept_back = split_rows(800, QUICK)
    held = rows.take(kept_back)
    scorer = ArtifactScorer.from_bytes(artifact, embedder)
    confidence = score_prompts([scorer], held.prompts, embedder)[0].confidence
    promise = scorer.header.promise
    assert promise is not None
    assert promise.rows == 400
    for point in promise.points[::20]:
        kept = confidence >= point.threshold
        assert point.kept == kept.sum()
        assert point.regret == held.regret[kept].sum()


def test_the_promise_keeps_the_easy_topics_and_holds_on_fresh_rows(
    artifact: bytes, embedder: WordEmbedder
) -> None:
    scorer = ArtifactScorer.from_bytes(artifact, embedder)
    assert scorer.header.promise is not None
    promise = scorer.header.promise.threshold_for(0.1, 0.1)
    assert promise.threshold is not None
    fresh = outcomes(4_000, seed=77)
    kept = score_prompts([scorer], fresh.prompts, embedder)[0].confidence >= promise.threshold
    assert float((fresh.regret * kept).mean()) <= 0.1
    assert 0.4 < kept.mean() < 0.9


def test_learning_and_certifying_rows_are_strangers() -> None:
    fit, certify = split_rows(1_001, CalibrateOptions(seed=3, certify_share=0.4))
    assert certify.size == 400
    assert sorted([*fit.tolist(), *certify.tolist()]) == list(range(1_001))
    again, _ = split_rows(1_001, CalibrateOptions(seed=3, certify_share=0.4))
    assert np.array_equal(fit, again)


def test_of_very_many_rows_a_random_part_is_used(
    monkeypatch: pytest.MonkeyPatch, embedder: WordEmbedder
) -> None:
    monkeypatch.setattr(calibrate, "MAX_FIT_ROWS", 120)
    monkeypatch.setattr(calibrate, "MAX_CERTIFY_ROWS", 90)
    header = decode_artifact(calibrate_outcomes(outcomes(400), embedder, MADE, QUICK)).header
    assert (header.rows.given, header.rows.fit, header.rows.certify) == (400, 120, 90)
    assert header.promise is not None
    assert header.promise.rows == 90
    assert header.promise.points[-1].kept == 90


def test_labels_of_certification_rows_reach_nothing_but_the_table(embedder: WordEmbedder) -> None:
    rows = outcomes(300)
    _, kept_back = split_rows(300, QUICK)
    weak = rows.weak.copy()
    weak[kept_back] = 1.0 - weak[kept_back]
    first, second = (
        decode_artifact(calibrate_outcomes(each, embedder, MADE, QUICK))
        for each in (rows, replace(rows, weak=weak))
    )
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
    assert first.header.calibration == second.header.calibration
    assert first.header.scope == second.header.scope
    assert first.header.promise != second.header.promise


def test_the_same_rows_and_seed_make_the_same_bytes(embedder: WordEmbedder) -> None:
    first, second = (calibrate_outcomes(outcomes(200), embedder, MADE, QUICK) for _ in range(2))
    assert first == second
    assert first != calibrate_outcomes(outcomes(200), embedder, MADE, replace(QUICK, seed=1))


def test_labels_alone_carry_no_promise_and_no_confidence(embedder: WordEmbedder) -> None:
    header = decode_artifact(calibrate_labels(labelled_texts(200), embedder, MADE, QUICK)).header
    assert header.promise is None
    assert header.calibration is None
    assert header.promise_note == "in-domain labels alone carry no promise"
    assert header.labels == ("billing", "cooking", "devices", "travel")


def test_without_certification_rows_there_is_a_confidence_and_no_promise(embedder: WordEmbedder) -> None:
    header = decode_artifact(
        calibrate_outcomes(outcomes(200), embedder, MADE, replace(QUICK, certify_share=0.0))
    ).header
    assert header.calibration is not None
    assert header.promise is None
    assert header.promise_note == "no rows were kept for certification"


def test_graded_outcomes_are_certified_with_a_bound_for_them(embedder: WordEmbedder) -> None:
    header = decode_artifact(calibrate_outcomes(outcomes(400, graded=True), embedder, MADE, QUICK)).header
    assert header.rows.graded
    assert header.promise is not None
    assert header.promise.method.startswith("Hoeffding-Bentkus")


def test_repeated_and_similar_certification_rows_are_counted(embedder: WordEmbedder) -> None:
    rows = outcomes(200)
    doubled = rows.take(np.concatenate([np.arange(200), np.arange(200)]))
    counts = decode_artifact(calibrate_outcomes(doubled, embedder, MADE, QUICK)).header.rows
    assert counts.repeated > 20
    assert counts.near_duplicates > 50


def test_many_labels_still_fit_the_file(embedder: WordEmbedder) -> None:
    texts = labelled_texts(1_200)
    many = replace(texts, labels=tuple(f"{label}-{row % 75}" for row, label in enumerate(texts.labels)))
    assert len(calibrate_labels(many, embedder, MADE, QUICK)) <= MAX_ARTIFACT_BYTES


def test_certifying_anew_replaces_the_table_and_nothing_that_scores(
    artifact: bytes, embedder: WordEmbedder
) -> None:
    later = date(2025, 2, 3)
    renewed = certify_artifact(artifact, outcomes(500, seed=50), embedder, later, {"slm": "new"})
    old, new = decode_artifact(artifact), decode_artifact(renewed)
    assert new.header.created == "2025-02-03"
    assert new.header.models == {"slm": "new", "llm": "b"}
    assert new.header.promise is not None
    assert new.header.promise.rows == 500
    assert new.header.calibration == old.header.calibration
    assert all(np.array_equal(old.arrays[name], new.arrays[name]) for name in old.arrays)
    assert new.digest != old.digest


def test_an_artifact_of_labels_alone_cannot_be_certified(embedder: WordEmbedder) -> None:
    labels = calibrate_labels(labelled_texts(100), embedder, MADE, QUICK)
    with pytest.raises(DataError, match="no confidence to certify"):
        certify_artifact(labels, outcomes(100), embedder, MADE, {})


def test_certifying_refuses_damaged_artifacts_and_other_embeddings(
    artifact: bytes, embedder: WordEmbedder
) -> None:
    with pytest.raises(ArtifactCorruptError):
        certify_artifact(artifact[:-5], outcomes(100), embedder, MADE, {})
    with pytest.raises(ArtifactEmbeddingError):
        certify_artifact(artifact, outcomes(100), WordEmbedder("other"), MADE, {})


def test_ten_rows_are_too_few(embedder: WordEmbedder) -> None:
    with pytest.raises(DataError, match="10 rows; calibration needs at least 50, and about 1,500"):
        calibrate_outcomes(outcomes(10), embedder, MADE, QUICK)
    with pytest.raises(DataError, match="10 rows; a scope gate needs at least 50"):
        calibrate_labels(labelled_texts(10), embedder, MADE, QUICK)


def test_outcomes_that_never_differ_teach_nothing(embedder: WordEmbedder) -> None:
    rows = outcomes(100)
    with pytest.raises(DataError, match="differ by the same amount in every row"):
        calibrate_outcomes(replace(rows, weak=rows.strong.copy()), embedder, MADE, QUICK)


def test_a_hopeless_small_model_keeps_next_to_nothing(embedder: WordEmbedder) -> None:
    rows = outcomes(400)
    noise = np.random.default_rng(0)
    hopeless = replace(rows, weak=np.zeros(400), strong=(noise.random(400) < 0.9).astype(float))
    header = decode_artifact(calibrate_outcomes(hopeless, embedder, MADE, QUICK)).header
    assert header.promise is not None
    assert header.promise.threshold_for(0.05, 0.1).kept_share < 0.05


def test_progress_is_shown_by_stage(embedder: WordEmbedder) -> None:
    seen: list[tuple[str, int, int]] = []
    calibrate_outcomes(
        outcomes(100),
        embedder,
        MADE,
        QUICK,
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert {"reading", "fitting", "scoring"} <= {stage for stage, _, _ in seen}
    assert all(0 <= done <= total for _, done, total in seen)
