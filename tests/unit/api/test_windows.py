"""Ids that never fall, in every time zone, and boundaries where people expect them."""

from datetime import UTC, datetime
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.windows import CalendarDay, CalendarMonth, RollingWindow, parse_window

ZONES = sorted(available_timezones())
HOUR = 3_600.0


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("24h", 86_400), ("1d", 86_400), ("7d", 604_800), ("90m", 5_400), ("366d", 31_622_400)],
)
def test_lengths_roll(text: str, seconds: int) -> None:
    assert parse_window(text) == RollingWindow(seconds)


def test_calendar_windows_name_their_zone() -> None:
    day = parse_window("1d@Europe/Berlin")
    assert isinstance(day, CalendarDay)
    assert day.zone.key == "Europe/Berlin"
    month = parse_window("month")
    assert isinstance(month, CalendarMonth)
    assert month.zone.key == "UTC"
    assert isinstance(parse_window("month@Asia/Tokyo"), CalendarMonth)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "24",
        "0h",
        "-1h",
        "24 h",
        "24H",
        "400d",
        "99999d",
        "2d@UTC",
        "month@",
        "month@Mars",
        "1d@../etc/passwd",
        "1d@Europe",
        "1d@UTC\n",
        "week",
        "1.5h",
    ],
)
def test_anything_else_is_an_error_that_says_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="window"):
        parse_window(text)


def test_days_are_as_long_as_the_zone_has_them() -> None:
    berlin = parse_window("1d@Europe/Berlin")
    spring = berlin.id_at(at("2025-03-30T12:00"))
    assert berlin.starts_at(spring) == at("2025-03-29T23:00")
    assert berlin.starts_at(spring + 1) - berlin.starts_at(spring) == 23 * HOUR
    autumn = berlin.id_at(at("2025-10-26T12:00"))
    assert berlin.starts_at(autumn + 1) - berlin.starts_at(autumn) == 25 * HOUR


def test_a_midnight_that_does_not_exist_is_where_the_clock_jumps() -> None:
    paulo = parse_window("1d@America/Sao_Paulo")
    day = paulo.id_at(at("2018-11-04T12:00"))
    assert paulo.starts_at(day) == at("2018-11-04T03:00")
    assert paulo.starts_at(day + 1) - paulo.starts_at(day) == 23 * HOUR


def test_a_clock_that_goes_back_over_midnight_does_not_bring_yesterday_back() -> None:
    """Newfoundland turned its clocks back at 00:01: 7 November 2010 had already begun."""
    newfoundland = parse_window("1d@America/St_Johns")
    begun = newfoundland.id_at(at("2010-11-07T02:30:30"))
    assert newfoundland.id_at(at("2010-11-07T02:29:30")) == begun - 1
    assert newfoundland.id_at(at("2010-11-07T03:00")) == begun
    assert newfoundland.id_at(at("2010-11-08T03:29")) == begun
    assert newfoundland.id_at(at("2010-11-08T03:31")) == begun + 1


def test_a_day_that_a_zone_left_out_is_passed_over() -> None:
    apia = parse_window("1d@Pacific/Apia")
    before = apia.id_at(at("2011-12-30T09:59"))
    assert apia.id_at(at("2011-12-30T10:00")) == before + 2


def test_months() -> None:
    month = parse_window("month@America/New_York")
    december = month.id_at(at("2025-12-15T00:00"))
    assert month.starts_at(december) == at("2025-12-01T05:00")
    assert month.starts_at(december + 1) == at("2026-01-01T05:00")
    assert month.id_at(at("2026-01-01T04:59")) == december
    assert month.id_at(at("2026-01-01T05:00")) == december + 1


windows = st.one_of(
    st.sampled_from(ZONES).map(lambda zone: f"1d@{zone}"),
    st.sampled_from(ZONES).map(lambda zone: f"month@{zone}"),
    st.integers(1, 8_784).map(lambda hours: f"{hours}h"),
).map(parse_window)
instants = st.floats(min_value=0.0, max_value=4e9)


@given(window=windows, earlier=instants, later=st.floats(0, 1e6))
def test_ids_never_fall(
    window: RollingWindow | CalendarDay | CalendarMonth, earlier: float, later: float
) -> None:
    assert window.id_at(earlier) <= window.id_at(earlier + later)


@given(window=windows, now=instants)
def test_an_instant_lies_between_its_ids_start_and_the_next(
    window: RollingWindow | CalendarDay | CalendarMonth, now: float
) -> None:
    window_id = window.id_at(now)
    # A slot's start is rounded to the clock's precision.
    assert window.starts_at(window_id) <= now + 1e-6
    assert now < window.starts_at(window_id + 1) + 1e-6


@given(hours=st.integers(1, 8_784), start=instants, fraction=st.floats(0, 1))
def test_an_interval_as_long_as_a_rolling_window_lies_in_the_ids_that_count(
    hours: int, start: float, fraction: float
) -> None:
    window = parse_window(f"{hours}h")
    end = start + fraction * hours * HOUR
    assert window.id_at(end) - window.id_at(start) < window.counted_ids
