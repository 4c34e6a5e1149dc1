"""Parts of the fit against what they should be equal to."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.ensemble import ExtraTreesRegressor

from hybridroute_lab.fitting.forest import fit_forest
from hybridroute_lab.fitting.inputs import bin_columns, fit_edges, fit_idf, weigh_hashed
from hybridroute_lab.fitting.platt import fit_platt
from hybridroute_lab.fitting.quantise import quantise_columns, quantise_vector
from hybridroute_lab.fitting.ridge import choose_penalty, fit_ridge
from hybridroute_lab.near_duplicates import find_near_duplicates, group_repeats
from hybridroute_serve.routing.artifact.heads import bucket_values


def test_the_three_ways_to_solve_a_ridge_agree() -> None:
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(60, 20)), rng.normal(size=60)
    by_hand = np.linalg.solve(inputs.T @ inputs + 3 * np.eye(20), inputs.T @ (targets - targets.mean()))
    assert fit_ridge(inputs, targets, 3.0) == pytest.approx(by_hand)
    assert fit_ridge(sparse.csr_array(inputs), targets, 3.0) == pytest.approx(by_hand)
    many = rng.normal(size=(4_000, 10))
    wanted = rng.normal(size=4_000)
    assert fit_ridge(sparse.csr_array(many), wanted, 3.0) == pytest.approx(
        fit_ridge(many, wanted, 3.0), abs=1e-3
    )


def test_noise_is_penalised_more_than_signal() -> None:
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(300, 30)) / np.sqrt(30)
    signal = inputs @ rng.normal(size=30) * 5
    assert choose_penalty(inputs, rng.normal(size=300), rng) > 10 * choose_penalty(inputs, signal, rng)


def test_platt_finds_the_curve_that_made_the_targets() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal(size=20_000)
    targets = (rng.random(20_000) < 1 / (1 + np.exp(-(0.8 * scores - 1.5)))).astype(float)
    slope, intercept = fit_platt(scores, targets)
    assert slope == pytest.approx(0.8, abs=0.08)
    assert intercept == pytest.approx(-1.5, abs=0.08)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_platt_stays_finite_for_constant_targets(value: float) -> None:
    slope, intercept = fit_platt(np.linspace(-1, 1, 100), np.full(100, value))
    assert np.isfinite([slope, intercept]).all()
    assert (intercept > 0) == (value == 1.0)


def test_platt_never_turns_an_order_round() -> None:
    scores = np.linspace(-1, 1, 200)
    slope, _ = fit_platt(scores, (scores < 0).astype(float))
    assert slope > 0


def test_quantised_numbers_come_back_nearly() -> None:
    values = np.random.default_rng(3).normal(size=(500, 4)) * np.array([1, 10, 0.1, 0])
    stored, scale = quantise_columns(values, bits=8, clip=6.0)
    assert stored * scale == pytest.approx(values, abs=0.6)
    assert (np.abs(stored * scale - values).max(axis=0) <= scale / 2 + 1e-6).all()
    four, _ = quantise_columns(values, bits=4, clip=4.0)
    assert np.abs(four).max() <= 7
    vector, one = quantise_vector(values[:, 0])
    assert vector * one == pytest.approx(values[:, 0], abs=float(one[0]))
    assert quantise_vector(np.zeros(3))[0].tolist() == [0, 0, 0]


def test_hashed_rows_have_length_one_and_rare_columns_weigh_more() -> None:
    rows = sparse.csr_array(
        np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 2.0]], dtype=np.float32)
    )
    weighed = weigh_hashed(rows, fit_idf(rows)).toarray()
    assert np.linalg.norm(weighed, axis=1) == pytest.approx([1, 1, 0, 1])
    assert weighed[0, 1] > weighed[0, 0]


def test_buckets_count_with_a_logarithm() -> None:
    hashes = np.array([3 << 60, 3 << 60, 5 << 60], dtype=np.uint64)
    touched, values = bucket_values(hashes, 4)
    assert touched.tolist() == [3, 5]
    assert values == pytest.approx([np.log(3), np.log(2)])


def test_bins_are_those_of_the_run_time() -> None:
    numbers = np.random.default_rng(4).integers(0, 5, size=(200, 3)).astype(np.float32)
    edges = fit_edges(numbers)
    binned = bin_columns(numbers, edges)
    one_by_one = np.array([(row[:, None] > edges).sum(axis=1) for row in numbers])
    assert np.array_equal(binned, one_by_one)


def test_a_forest_is_the_one_that_scikit_learn_would_fit() -> None:
    rng = np.random.default_rng(5)
    bins = rng.integers(0, 30, size=(400, 9), dtype=np.uint8)
    targets = (bins[:, 0] > 12) + 0.1 * rng.normal(size=400)
    model = ExtraTreesRegressor(
        100, min_samples_leaf=8, max_leaf_nodes=48, max_depth=12, max_features=0.2, random_state=7
    )
    expected = model.fit(bins.astype(np.float32), targets).predict(bins.astype(np.float32))
    assert fit_forest(bins, targets, 7).predict(bins) == pytest.approx(expected, abs=1e-12)


def test_repeats_differ_in_case_and_blanks_alone() -> None:
    assert group_repeats(["How  are you?", "how are you?\n", "How are you"]).tolist() == [0, 0, 1]


def test_near_duplicates_are_found_by_direction() -> None:
    known = np.eye(3, dtype=np.float32)
    asked = np.array([[1, 0, 0], [0.9, 0.4359, 0]], dtype=np.float32)
    assert find_near_duplicates(asked, known).tolist() == [True, False]
    assert find_near_duplicates(asked, known[:0]).tolist() == [False, False]
