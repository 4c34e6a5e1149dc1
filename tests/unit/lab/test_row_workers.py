"""Rows in several processes: the same tables and scores as in one, and progress that adds up."""

from dataclasses import fields
from datetime import date

import numpy as np
import pytest

from hybridroute_lab import row_workers
from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes
from hybridroute_lab.feature_table import build_feature_table
from hybridroute_lab.scoring import score_prompts
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import load_static_embedder
from support.lab_rows import labelled_texts, outcomes

MADE = date(2025, 1, 2)
QUICK = CalibrateOptions(drift_limits=False)


def test_two_processes_read_and_score_what_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_workers, "_LEAST_ROWS", 50)
    embedder = load_static_embedder()
    texts = labelled_texts(101).texts
    one, two = (build_feature_table(texts, embedder, workers=workers) for workers in (1, 2))
    assert len(one) == 101
    assert np.array_equal(one.vectors, two.vectors)
    assert np.array_equal(one.shapes, two.shapes)
    for name in ("words", "characters", "scope_words", "scope_characters"):
        assert (getattr(one, name) != getattr(two, name)).nnz == 0
        assert getattr(one, name).nnz > 0
    scorer = ArtifactScorer.from_bytes(calibrate_outcomes(outcomes(80), embedder, MADE, QUICK), embedder)
    (alone,), (shared,) = (score_prompts([scorer], texts, embedder, workers=workers) for workers in (1, 2))
    for field in fields(alone):
        assert np.array_equal(getattr(alone, field.name), getattr(shared, field.name)), field.name


def test_rows_without_labels_have_no_hashes_for_classifiers() -> None:
    table = build_feature_table(labelled_texts(7).texts, load_static_embedder(), labels=False)
    assert (table.scope_words.nnz, table.scope_characters.nnz) == (0, 0)
    assert table.scope_words.shape == (7, 1_024)
    assert table.words.nnz > 0


def test_progress_counts_every_row_once() -> None:
    seen: list[tuple[str, int, int]] = []
    parts = row_workers.map_rows(
        len,
        ["row"] * 1_100,
        workers=1,
        stage="reading",
        progress=lambda stage, done, total: seen.append((stage, done, total)),
    )
    assert list(parts) == [500, 500, 100]
    assert seen == [("reading", done, 1_100) for done in (0, 500, 1_000, 1_100)]
