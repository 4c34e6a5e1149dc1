"""What the table counts."""

import numpy as np
import pytest

from hybridroute_lab.certification.table import certify_thresholds, choose_thresholds

CONFIDENCE = np.array([0.9, 0.8, 0.7, 0.6])
WEAK = np.array([1.0, 0.0, 0.0, 1.0])
STRONG = np.array([1.0, 1.0, 0.0, 0.0])


def test_counts_by_hand() -> None:
    table = certify_thresholds(np.array([0.95, 0.8, 0.0]), CONFIDENCE, WEAK, STRONG, (0.1,))
    assert [point.kept for point in table.points] == [0, 2, 4]
    assert [point.regret for point in table.points] == [0, 1, 1]
    assert [point.slm_wrong for point in table.points] == [0, 1, 2]
    assert [point.llm_better for point in table.points] == [
        0,
        1,
        0,
    ]  # at the last row the small model was better
    assert table.rows == 4


def test_a_threshold_keeps_the_confidence_equal_to_it() -> None:
    table = certify_thresholds(np.array([0.8]), CONFIDENCE, WEAK, STRONG, (0.1,))
    assert table.points[0].kept == 2


def test_bounds_never_fall_with_a_looser_threshold() -> None:
    rng = np.random.default_rng(0)
    confidence, regret = rng.random(400), (rng.random(400) < 0.2).astype(np.float64)
    table = certify_thresholds(np.linspace(1, 0, 80), confidence, 1 - regret, np.ones(400))
    for delta in ("0.01", "0.05", "0.1", "0.2"):
        bounds = [point.upper[delta] for point in table.points]
        assert bounds == sorted(bounds)
    for point in table.points:
        assert point.upper["0.01"] >= point.upper["0.05"] >= point.upper["0.1"] >= point.upper["0.2"]
        assert point.upper["0.2"] > point.regret / 400


def test_graded_labels_are_told_apart() -> None:
    graded = certify_thresholds(np.array([0.5]), CONFIDENCE, WEAK * 0.5, STRONG, (0.1,))
    assert graded.method.startswith("Hoeffding-Bentkus")
    assert certify_thresholds(np.array([0.5]), CONFIDENCE, WEAK, STRONG, (0.1,)).method.startswith("Clopper")


@pytest.mark.parametrize("graded", [True, False])
def test_thresholds_fall_and_end_at_keeping_everything(graded: bool) -> None:
    thresholds = choose_thresholds(np.random.default_rng(0).random(500), graded=graded)
    assert (np.diff(thresholds) < 0).all()
    assert thresholds[-1] == 0.0
