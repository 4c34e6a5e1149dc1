"""Bounds on a mean, against their own definitions."""

import numpy as np
import pytest
from scipy import stats

from hybridroute_lab.certification.band import band_level, checked_counts, crossing_probability
from hybridroute_lab.certification.bounds import binomial_upper, hoeffding_bentkus_upper


@pytest.mark.parametrize(("count", "rows"), [(0, 10), (3, 50), (49, 50)])
def test_clopper_pearson_is_where_so_few_have_just_that_chance(count: int, rows: int) -> None:
    bound = float(binomial_upper(count, rows, 0.1))
    assert float(stats.binom.cdf(count, rows, bound)) == pytest.approx(0.1, abs=1e-9)


def test_when_all_rows_regret_the_bound_is_one() -> None:
    assert float(binomial_upper(50, 50, 0.1)) == 1.0


def test_nothing_seen_in_few_rows_promises_little() -> None:
    assert float(binomial_upper(0, 10, 0.1)) == pytest.approx(1 - 0.1 ** (1 / 10))


@pytest.mark.parametrize(("risk", "graded"), [(0.05, False), (0.3, True)])
def test_hoeffding_bentkus_covers_the_mean_as_often_as_it_says(risk: float, graded: bool) -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(400):
        values = rng.beta(2, 2 / risk - 2, 200) if graded else (rng.random(200) < risk).astype(float)
        missed += float(hoeffding_bentkus_upper(float(values.sum()), 200, 0.1)[0]) < risk
    assert missed <= 0.1 * 400 + 3 * np.sqrt(400 * 0.09)


def test_hoeffding_bentkus_tightens_with_rows_and_loosens_with_confidence() -> None:
    assert hoeffding_bentkus_upper(50, 1_000, 0.1) < hoeffding_bentkus_upper(5, 100, 0.1)
    assert hoeffding_bentkus_upper(5, 100, 0.1) < hoeffding_bentkus_upper(5, 100, 0.01)


@pytest.mark.parametrize(("rows", "level"), [(40, 0.02), (200, 0.01)])
def test_the_recursion_agrees_with_simulated_uniform_numbers(rows: int, level: float) -> None:
    rng = np.random.default_rng(2)
    ordered = np.sort(rng.random((40_000, rows)), axis=1)
    counts = checked_counts(rows)
    crossed = (ordered[:, counts] > binomial_upper(counts, rows, level)).any(axis=1).mean()
    assert crossing_probability(rows, level) == pytest.approx(crossed, abs=4 * np.sqrt(crossed / 40_000))


@pytest.mark.parametrize("rows", [25, 300, 1_000])
def test_the_level_uses_up_delta_and_beats_bonferroni(rows: int) -> None:
    level = band_level(rows, 0.1)
    assert crossing_probability(rows, level) <= 0.1
    assert crossing_probability(rows, level * 1.02) > 0.099
    assert level > 2 * 0.1 / checked_counts(rows).size


def test_many_rows_fall_back_to_bonferroni() -> None:
    assert band_level(200_000, 0.1) == 0.1 / checked_counts(200_000).size
