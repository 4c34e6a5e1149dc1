"""The promise on synthetic traffic with known risk: kept as often as it says, and not by keeping nothing.

The curve of joint regret touches alpha and stays there, so that every threshold a little too loose breaks the
promise. The same measure must catch a router that is certified with the rows it was fitted on.
"""

from dataclasses import replace
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes
from hybridroute_lab.certification.table import certify_thresholds, choose_thresholds
from hybridroute_lab.fitting.platt import fit_platt
from hybridroute_lab.fitting.ridge import fit_ridge
from hybridroute_lab.scoring import score_prompts
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from support.lab_rows import WordEmbedder, outcomes

Floats = NDArray[np.float64]

DELTA = 0.1
ALPHA = 0.1
DRAWS = 2_000
GRID = np.linspace(1.0, 0.0, 101)


def violation_share_at_least(violations: int, draws: int) -> float:
    """The 99 % lower bound on the share of violations."""
    return 0.0 if violations == 0 else float(stats.beta.ppf(0.01, violations, draws - violations + 1))


def joint_regret(threshold: Floats) -> Floats:
    """Known risk of keeping everything from a threshold on: alpha at 0.4, level to 0.35, steep below."""
    kept = 1.0 - threshold
    rising = ALPHA * np.minimum(kept / 0.6, 1.0) ** 2
    return rising + 0.8 * np.maximum(0.0, kept - 0.65)


def draw(rows: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    confidence = rng.random(rows)
    density = np.where(
        confidence > 0.4, 2 * ALPHA * (1 - confidence) / 0.36, np.where(confidence > 0.35, 0.0, 0.8)
    )
    return confidence, (rng.random(rows) < density).astype(np.float64)


def test_fresh_draws_break_the_promise_no_more_often_than_delta_and_keep_most() -> None:
    rng = np.random.default_rng(3)
    violations, kept = 0, []
    for _ in range(DRAWS):
        confidence, regret = draw(600, rng)
        promise = certify_thresholds(GRID, confidence, 1.0 - regret, np.ones(600), (DELTA,)).threshold_for(
            ALPHA, DELTA
        )
        threshold = 1.0 if promise.threshold is None else promise.threshold
        violations += bool(joint_regret(np.array(threshold)) > ALPHA + 1e-12)
        kept.append(1.0 - threshold)
    assert violation_share_at_least(violations, DRAWS) <= DELTA
    assert np.mean(kept) >= 0.5 * 0.65


def test_a_risk_that_is_chosen_after_looking_is_as_honest() -> None:
    """All thresholds are certified at once: the most tempting one may be picked with the bounds in hand."""
    rng = np.random.default_rng(4)
    violations = 0
    for _ in range(DRAWS):
        confidence, regret = draw(300, rng)
        table = certify_thresholds(GRID, confidence, 1.0 - regret, np.ones(300), (DELTA,))
        gaps = [point.upper["0.1"] - joint_regret(np.array(point.threshold)) for point in table.points]
        violations += bool(np.min(gaps) < -1e-6)
    assert violation_share_at_least(violations, DRAWS) <= DELTA


def test_graded_regret_keeps_the_promise_too() -> None:
    rng = np.random.default_rng(5)
    violations, kept = 0, []
    for _ in range(300):
        confidence, regret = draw(600, rng)
        gap = regret * rng.choice([0.5, 1.0], 600) / 0.75  # mean 1, so that the curve stays as it is
        strong = np.minimum(1.0, gap)
        known = joint_regret(GRID) * float(np.mean(np.minimum(1.0, np.array([0.5, 1.0]) / 0.75)))
        table = certify_thresholds(GRID[::5], confidence, np.zeros(600), strong, (DELTA,))
        threshold = table.threshold_for(ALPHA, DELTA).threshold or 1.0
        violations += bool(known[np.searchsorted(-GRID, -threshold)] > ALPHA)
        kept.append(1.0 - threshold)
    assert violation_share_at_least(violations, 300) <= DELTA
    assert np.mean(kept) > 0.25


def fit_to_noise(rows: int, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """A router with more columns than rows, fitted to regret that nothing explains: confidences on its own rows,
    the regret of those, and confidences on fresh rows."""
    regret = (rng.random(rows) < 0.3).astype(np.float64)
    inputs, others = rng.normal(size=(rows, 400)) / 20, rng.normal(size=(800, 400)) / 20
    weights = fit_ridge(inputs, regret, 0.1)
    slope, intercept = fit_platt(inputs @ weights, regret)
    own, fresh = (1.0 / (1.0 + np.exp(slope * (part @ weights) + intercept)) for part in (inputs, others))
    return own, regret, fresh


def test_a_router_certified_with_the_rows_it_was_fitted_on_fails_this_very_check() -> None:
    rng = np.random.default_rng(6)
    same_rows, fresh_rows, draws = 0, 0, 100
    for _ in range(draws):
        own, regret, fresh = fit_to_noise(200, rng)
        thresholds = np.quantile(own, np.linspace(0.99, 0.0, 100))
        ones = np.ones(200)
        wrong = certify_thresholds(thresholds, own, 1.0 - regret, ones, (DELTA,)).threshold_for(ALPHA, DELTA)
        anew = (rng.random(200) < 0.3).astype(np.float64)
        right = certify_thresholds(thresholds, fresh[:200], 1.0 - anew, ones, (DELTA,)).threshold_for(
            ALPHA, DELTA
        )
        for promise, judged in ((wrong, "same"), (right, "fresh")):
            threshold = 2.0 if promise.threshold is None else promise.threshold
            broken = 0.3 * float((fresh[200:] >= threshold).mean()) > ALPHA
            same_rows += broken and judged == "same"
            fresh_rows += broken and judged == "fresh"
    assert violation_share_at_least(same_rows, draws) > DELTA
    assert violation_share_at_least(fresh_rows, draws) <= DELTA


def test_calibration_itself_fails_it_when_certified_with_its_own_rows() -> None:
    """Outcomes that no prompt explains: 30 % regret whatever is asked, so that more than a third kept breaks it."""
    embedder = WordEmbedder()
    options = CalibrateOptions(certify_share=0.0, drift_limits=False)
    rng = np.random.default_rng(8)
    same_rows, fresh_rows, draws = 0, 0, 8
    for number in range(draws):
        given = outcomes(500, seed=number)
        noise = replace(given, weak=(rng.random(500) >= 0.3).astype(np.float64), strong=np.ones(500))
        own = noise.take(np.arange(250))
        scorer = ArtifactScorer.from_bytes(
            calibrate_outcomes(own, embedder, date(2025, 1, 2), options), embedder
        )
        scored = score_prompts([scorer], noise.prompts, embedder)[0].confidence
        thresholds = choose_thresholds(scored[:250], graded=False)
        for rows, judged in ((np.arange(250), "same"), (np.arange(250, 500), "fresh")):
            table = certify_thresholds(
                thresholds, scored[rows], noise.weak[rows], noise.strong[rows], (DELTA,)
            )
            threshold = table.threshold_for(ALPHA, DELTA).threshold
            broken = threshold is not None and 0.3 * float((scored[250:] >= threshold).mean()) > ALPHA
            same_rows += broken and judged == "same"
            fresh_rows += broken and judged == "fresh"
    assert violation_share_at_least(same_rows, draws) > DELTA
    assert violation_share_at_least(fresh_rows, draws) <= DELTA


def test_too_few_rows_keep_nothing_and_say_why() -> None:
    rng = np.random.default_rng(7)
    confidence, regret = draw(20, rng)
    promise = certify_thresholds(GRID, confidence, 1.0 - regret, np.ones(20), (DELTA,)).threshold_for(
        0.02, DELTA
    )
    assert promise.threshold is None
    assert "20 certification rows" in promise.reason
