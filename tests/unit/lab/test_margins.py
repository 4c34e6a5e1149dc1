"""The cascade's thresholds: chosen for a share of the traffic, counted on rows that they were not chosen on."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes, certify_artifact, split_rows
from hybridroute_lab.certification.margins import SHARES, choose_margins, count_margins
from hybridroute_lab.scoring import score_prompts
from hybridroute_lab.tables import Outcomes
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.margins import MarginTable
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from support.lab_rows import WordEmbedder, outcomes

MADE = date(2025, 1, 2)
QUICK = CalibrateOptions(drift_limits=False)


def with_margins(count: int, seed: int = 0) -> Outcomes:
    """Rows whose margin tells something of whether the small model is right; one in ten has none."""
    rng = np.random.default_rng(seed + 100)
    rows = outcomes(count, seed)
    margins = np.clip(0.35 + 0.3 * rows.weak + rng.normal(0, 0.15, count), 0.0, 1.0)
    margins[rng.random(count) < 0.1] = np.inf
    return replace(rows, margins=margins)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.booleans())
def test_no_share_is_gone_over_on_the_rows_that_it_was_chosen_on(seed: int, count: int, coarse: bool) -> None:
    rng = np.random.default_rng(seed)
    confidence, margins = rng.random(count), rng.random(count)
    if coarse:
        margins = np.round(margins, 1)
    margins[rng.random(count) < 0.2] = np.inf
    thresholds = np.linspace(1.0, 0.0, 50)
    table = count_margins(
        choose_margins(thresholds, confidence, margins, 16), confidence, np.ones(count), margins
    )
    assert (table.rows, table.certify, table.tokens) == (count, count, 16)
    assert table.points[-1].threshold == 0.0
    for point in table.points:
        kept = int((confidence >= point.threshold).sum())
        assert point.regret == kept
        for share, escalated, left in zip(SHARES, point.escalated, point.regret_left, strict=True):
            assert escalated <= share * count + 1e-9
            assert left == kept - escalated
        assert list(point.margins) == sorted(point.margins)
        assert list(point.regret_left) == sorted(point.regret_left, reverse=True)


def table_of(data: bytes) -> MarginTable:
    margins = decode_artifact(data).header.margins
    assert margins is not None
    return margins


@pytest.fixture(scope="module")
def artifact() -> bytes:
    return calibrate_outcomes(with_margins(800), WordEmbedder(), MADE, replace(QUICK, margin_tokens=8))


def test_the_counts_are_of_the_rows_kept_back(artifact: bytes) -> None:
    embedder, table = WordEmbedder(), table_of(artifact)
    _, kept_back = split_rows(800, QUICK)
    held = with_margins(800).take(kept_back)
    assert held.margins is not None
    scorer = ArtifactScorer.from_bytes(artifact, embedder)
    confidence = score_prompts([scorer], held.prompts, embedder)[0].confidence
    assert (table.tokens, table.rows, table.certify) == (8, 400, 400)
    for point in table.points:
        kept = confidence >= point.threshold
        passed = kept & ~(held.margins < point.margins[3])
        assert point.escalated[3] == kept.sum() - passed.sum()
        assert point.regret_left[3] == held.regret[passed].sum()


def test_a_cascade_only_lowers_the_joint_regret(artifact: bytes) -> None:
    for point in table_of(artifact).points:
        assert all(left <= point.regret for left in point.regret_left)
    # And margins that know something lower it by more than their share of what is kept.
    found = table_of(artifact).find(0.0, 0.2)
    assert found is not None
    point, place = found
    assert point.regret_left[place] < 0.75 * point.regret


def test_the_margins_change_nothing_else(artifact: bytes) -> None:
    plain = decode_artifact(calibrate_outcomes(outcomes(800), WordEmbedder(), MADE, QUICK)).header
    header = decode_artifact(artifact).header
    assert plain.margins is None
    assert (plain.promise, plain.calibration, plain.scope) == (
        header.promise,
        header.calibration,
        header.scope,
    )


def test_fresh_rows_count_anew_and_choose_nothing(artifact: bytes) -> None:
    fresh = certify_artifact(artifact, with_margins(600, seed=5), WordEmbedder(), MADE, {})
    before, after = table_of(artifact), table_of(fresh)
    assert [point.margins for point in after.points] == [point.margins for point in before.points]
    assert (before.certify, after.certify) == (400, 600)
    without = certify_artifact(artifact, outcomes(600, seed=5), WordEmbedder(), MADE, {})
    assert table_of(without) == before


@pytest.mark.parametrize(
    ("confidence", "max_share", "tokens", "why"),
    [
        (0.5, 0.2, 16, "the policy's margins are of 8 tokens, and cascade.tokens is 16: make both the same"),
        (0.5, 0.001, 8, "the policy has no margin for a share as small as 0.001"),
    ],
)
def test_why_there_is_no_threshold(
    artifact: bytes, confidence: float, max_share: float, tokens: int, why: str
) -> None:
    choice = table_of(artifact).choose(confidence, max_share, tokens)
    assert (choice.threshold, choice.why) == (None, why)


def test_between_two_points_the_more_cautious_counts(artifact: bytes) -> None:
    table = table_of(artifact)
    strict, loose = table.points[4], table.points[5]
    between = (strict.threshold + loose.threshold) / 2
    choice = table.choose(between, 0.12, 8)
    assert choice.threshold == loose.margins[table.shares.index(0.1)]
    assert choice.why.startswith("escalates at most 10 % of 400 labelled requests; of 400 others ")
