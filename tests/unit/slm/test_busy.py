"""Shares of the busy time add up to it, however requests overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.slm.busy import BusyShare, BusyTicket

SPANS = st.lists(
    st.tuples(st.floats(0, 1000), st.floats(0, 100)).map(lambda span: (span[0], span[0] + span[1])),
    min_size=1,
    max_size=30,
)


def _play(spans: list[tuple[float, float]]) -> tuple[list[float], BusyShare]:
    """Run requests over their spans; return each one's share and the account."""
    busy = BusyShare(0.0)
    tickets: dict[int, BusyTicket] = {}
    shares = [0.0] * len(spans)
    events = sorted(
        [(start, 1, index) for index, (start, _) in enumerate(spans)]
        + [(end, 2, index) for index, (_, end) in enumerate(spans)]
    )
    for now, kind, index in events:
        if kind == 1:
            tickets[index] = busy.enter(now)
        else:
            shares[index] = busy.leave(tickets[index], now)
    return shares, busy


def _covered_seconds(spans: list[tuple[float, float]]) -> float:
    """The length of the union of the spans, found another way."""
    covered = 0.0
    reached = 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


@given(SPANS)
def test_shares_add_up_to_the_busy_time(spans: list[tuple[float, float]]) -> None:
    shares, busy = _play(spans)
    assert sum(shares) == pytest.approx(_covered_seconds(spans), abs=1e-6)
    assert busy.busy_seconds(2000.0) == pytest.approx(_covered_seconds(spans), abs=1e-6)
    assert busy.inflight == 0


@given(SPANS)
def test_no_share_is_negative_or_longer_than_its_request(spans: list[tuple[float, float]]) -> None:
    shares, _ = _play(spans)
    for share, (start, end) in zip(shares, spans, strict=True):
        assert -1e-9 <= share <= end - start + 1e-9


@given(st.integers(1, 50), st.floats(0.001, 1000))
def test_requests_that_run_together_share_equally(count: int, seconds: float) -> None:
    shares, _ = _play([(0.0, seconds)] * count)
    assert shares == pytest.approx([seconds / count] * count)


def test_a_request_alone_for_a_while_pays_that_while_whole() -> None:
    shares, _ = _play([(0.0, 10.0), (4.0, 6.0)])
    assert shares == pytest.approx([9.0, 1.0])


def test_idle_time_is_nobodys() -> None:
    shares, busy = _play([(1.0, 2.0), (5.0, 6.0)])
    assert shares == pytest.approx([1.0, 1.0])
    assert busy.busy_seconds(100.0) == pytest.approx(2.0)


def test_what_is_in_flight_counts_as_busy_before_it_ends() -> None:
    busy = BusyShare(0.0)
    busy.enter(1.0)
    assert busy.busy_seconds(4.0) == pytest.approx(3.0)
    assert busy.inflight == 1


def test_a_clock_that_steps_back_takes_nothing_back() -> None:
    busy = BusyShare(10.0)
    ticket = busy.enter(10.0)
    busy.busy_seconds(12.0)
    assert busy.leave(ticket, 11.0) == pytest.approx(2.0)
    assert busy.busy_seconds(12.5) == pytest.approx(2.0)
