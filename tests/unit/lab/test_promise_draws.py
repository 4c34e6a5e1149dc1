"""A seeded sample of `benchmarks/promise_draws.py`: the promise on traffic whose risk is known."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from support.benchmark_modules import load_benchmark


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_benchmark("promise_draws")


@pytest.mark.parametrize("curve", ["touches", "passes", "just above"])
@pytest.mark.parametrize("graded", [False, True], ids=["0/1", "graded"])
def test_fresh_draws_break_the_promise_no_more_often_than_delta(
    campaign: ModuleType, curve: str, graded: bool
) -> None:
    result = campaign.simulate(curve, 0.1, 750, draws=100, graded=graded, rng=np.random.default_rng(0))
    assert result.at_least <= campaign.DELTA
    assert 0.0 < result.kept < result.allowed
    assert result.holds


@pytest.mark.parametrize(("curve", "allowed"), [("touches", 0.65), ("passes", 0.5), ("just above", 0.3)])
def test_a_curve_allows_what_lies_below_alpha(campaign: ModuleType, curve: str, allowed: float) -> None:
    made = campaign.CURVES[curve](0.1)
    assert made.allowed(0.1) == pytest.approx(allowed, abs=0.01)
    shares = np.random.default_rng(0).random(200_000)
    regret = np.mean(made.regret_chance(shares) * (shares <= allowed))
    assert regret == pytest.approx(made.risk_at(allowed), rel=0.03)


def test_the_campaign_writes_table_numbers_and_plot(campaign: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    results = [
        campaign.simulate(curve, alpha, rows, draws=3, graded=False, rng=rng)
        for curve in campaign.CURVES
        for alpha in campaign.ALPHAS
        for rows in (300, 750)
    ]
    campaign.write_results(results, tmp_path, "made by a test")
    assert (tmp_path / "promise_draws.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "promise_draws.md").read_text().count("| touches |") == 6
