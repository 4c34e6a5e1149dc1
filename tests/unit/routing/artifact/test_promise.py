"""Reading a threshold off the certified table."""

from hybridroute_serve.routing.artifact.promise import CertifiedPoint, PromiseTable


def point(threshold: float, kept: int, upper: float) -> CertifiedPoint:
    return CertifiedPoint(
        threshold,
        kept,
        regret=kept / 20,
        slm_wrong=kept / 10,
        llm_better=kept / 40,
        upper={"0.05": upper + 0.01, "0.1": upper},
    )


TABLE = PromiseTable(1_000, "by hand", (point(0.9, 100, 0.02), point(0.8, 400, 0.05), point(0.6, 900, 0.2)))


def test_the_loosest_threshold_within_the_risk_is_taken() -> None:
    promise = TABLE.threshold_for(0.05, 0.1)
    assert promise.threshold == 0.8
    assert promise.kept_share == 0.4
    assert promise.point is TABLE.points[1]
    assert "0.0500 <= maxRisk 0.05 with confidence 0.9" in promise.reason


def test_editing_the_risk_moves_the_threshold_both_ways() -> None:
    assert TABLE.threshold_for(0.02, 0.1).threshold == 0.9
    assert TABLE.threshold_for(0.5, 0.1).threshold == 0.6


def test_an_impossible_risk_keeps_nothing_and_says_what_is_possible() -> None:
    promise = TABLE.threshold_for(0.001, 0.1)
    assert promise.threshold is None
    assert promise.kept_share == 0.0
    assert "lowest joint regret that can be promised at delta 0.1 is 0.0200" in promise.reason


def test_a_smaller_delta_promises_less_at_the_same_threshold() -> None:
    assert TABLE.threshold_for(0.05, 0.05).threshold == 0.9
    assert TABLE.threshold_for(0.05, 0.07).threshold == 0.9  # the next smaller stored delta


def test_a_delta_below_all_stored_ones_is_refused() -> None:
    promise = TABLE.threshold_for(0.05, 0.001)
    assert promise.threshold is None
    assert "0.05, 0.1" in promise.reason


def test_a_point_above_the_risk_ends_the_search_even_if_a_looser_one_is_below() -> None:
    table = PromiseTable(100, "", (point(0.9, 10, 0.02), point(0.8, 20, 0.06), point(0.7, 30, 0.05)))
    assert table.threshold_for(0.05, 0.1).threshold == 0.9


def test_an_empty_table_keeps_nothing() -> None:
    assert PromiseTable(0, "", ()).threshold_for(0.1, 0.1).threshold is None
