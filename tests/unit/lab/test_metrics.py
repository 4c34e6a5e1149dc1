"""APGR, CPT, AUROC and calibration error by hand."""

import numpy as np
import pytest

from hybridroute_lab.evaluation.complexity import complexity
from hybridroute_lab.evaluation.guarantee import FrozenRouter, measure_guarantee, violation_limit
from hybridroute_lab.evaluation.metrics import (
    area_gained,
    area_under_roc,
    calibration_error,
    cost_quality,
    false_positives_at,
)

WEAK = np.array([1.0, 0.0, 1.0, 0.0])
STRONG = np.array([1.0, 1.0, 0.0, 1.0])  # gains 0, 1, -1, 1


def test_a_curve_by_hand() -> None:
    curve = cost_quality(np.array([1.0, 4.0, 2.0, 3.0]), WEAK, STRONG)
    assert curve.recovered.tolist() == [0, 1, 2, 1, 1]
    assert curve.apgr == pytest.approx((0.5 + 1.5 + 1.5 + 1.0) / 4)
    assert curve.cpt(50) == 25.0
    assert curve.cpt(100) == 25.0


def test_ties_are_worth_the_mean_of_their_orders() -> None:
    constant = cost_quality(np.zeros(4), WEAK, STRONG)
    assert constant.recovered == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert constant.apgr == pytest.approx(0.5)
    assert constant.cpt(50) == 50.0


def test_the_oracle_is_above_everything() -> None:
    rng = np.random.default_rng(0)
    best = cost_quality(STRONG - WEAK, WEAK, STRONG).apgr
    assert all(cost_quality(rng.random(4), WEAK, STRONG).apgr <= best for _ in range(50))


def test_a_large_model_that_is_no_better_has_no_curve() -> None:
    with pytest.raises(ValueError, match="nothing to recover"):
        cost_quality(np.zeros(2), np.ones(2), np.ones(2))


def test_area_under_roc_counts_ties_half() -> None:
    assert area_under_roc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)
    assert np.isnan(area_under_roc(np.zeros(0), np.ones(1)))


def test_the_area_gained_is_the_difference_of_the_areas() -> None:
    ours = (np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    theirs = (np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    mean, std = area_gained(ours, theirs)
    assert mean == pytest.approx(area_under_roc(*ours) - area_under_roc(*theirs))
    # by hand: the positives' shares differ by 0.75 and 0, the negatives' by 0.5 and 0.25
    assert std == pytest.approx(np.sqrt(0.375**2 / 2 + 0.125**2 / 2))
    assert area_gained(ours, ours) == (0.0, 0.0)
    with pytest.raises(ValueError, match="positives and negatives"):
        area_gained((np.zeros(0), np.ones(1)), (np.zeros(0), np.ones(1)))


def test_the_spread_of_the_area_gained_is_what_a_paired_bootstrap_shows() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1.0, 1.0, 400), rng.normal(0.0, 1.0, 150)
    theirs = (positive + rng.normal(0.0, 0.5, 400), negative + rng.normal(0.0, 0.5, 150))
    mean, std = area_gained((positive, negative), theirs)
    redrawn = []
    for _ in range(1_000):
        rows, others = rng.integers(400, size=400), rng.integers(150, size=150)
        redrawn.append(
            area_under_roc(positive[rows], negative[others])
            - area_under_roc(theirs[0][rows], theirs[1][others])
        )
    assert mean == pytest.approx(np.mean(redrawn), abs=0.1 * std)
    assert std == pytest.approx(np.std(redrawn), rel=0.1)
    unpaired = area_gained((positive, negative), (rng.permutation(theirs[0]), rng.permutation(theirs[1])))
    assert unpaired[0] == pytest.approx(mean)
    assert unpaired[1] > 1.5 * std


def test_false_positives_at_a_share_of_true_ones() -> None:
    positive = np.arange(100.0)
    assert false_positives_at(0.95, positive, np.array([0.0, 4.0, 10.0, 50.0])) == 0.5


def test_calibration_error_is_the_gap_between_said_and_seen() -> None:
    confidence = np.repeat([0.2, 0.8], 500)
    right = np.concatenate([np.tile([1, 0, 0, 0, 0], 100), np.tile([1, 1, 0, 0, 0], 100)]).astype(float)
    assert calibration_error(confidence, right, bins=2) == pytest.approx(0.2)


def test_the_heuristic_puts_work_above_small_talk() -> None:
    hard = "Prove step by step that the algorithm's complexity is optimal. First derive the equation, then evaluate it."
    assert complexity(hard) > complexity("Hi, what is up?")
    assert complexity("def f(x): return x\nimport os") > complexity("tell me a story about a cat")


def test_the_limit_allows_for_the_judging_rows_own_noise() -> None:
    exact = violation_limit(100, 10**9, 10**9)
    assert exact == pytest.approx(0.1, abs=1e-3)
    assert violation_limit(750, 12_500, 200) > violation_limit(750, 12_500, 20_000) > exact
    assert violation_limit(750, 750, 10**9) > violation_limit(750, 12_500, 10**9)


def _router(rows: int, seed: int) -> FrozenRouter:
    rng = np.random.default_rng(seed)
    confidence = rng.random(rows)
    regret = (rng.random(rows) < 0.4 * (1 - confidence)).astype(float)
    return FrozenRouter(np.linspace(1, 0, 101), confidence, 1.0 - regret, np.ones(rows))


def test_resplits_of_an_honest_router_stay_within_the_limit_and_beat_chance() -> None:
    for row in measure_guarantee([_router(4_000, 1)], 500, np.random.default_rng(0), resplits=100):
        assert row["violation_share"] <= row["violation_limit"]
        assert row["risk"] <= row["alpha"]
        assert row["kept"] > row["kept_random"]


def test_knowing_the_labels_keeps_everything_and_a_shuffle_of_them_little() -> None:
    honest = _router(4_000, 2)
    known = np.where(honest.strong > honest.weak, 0.1, 0.9)
    rng = np.random.default_rng(1)
    oracle = FrozenRouter(honest.thresholds, known, honest.weak, honest.strong)
    guess = FrozenRouter(honest.thresholds, rng.permutation(known), honest.weak, honest.strong)
    of_oracle, of_guess = (measure_guarantee([router], 500, rng, 20)[1] for router in (oracle, guess))
    assert of_oracle["risk"] == 0.0
    assert of_oracle["kept"] > 0.75
    assert of_guess["kept"] < 0.1
