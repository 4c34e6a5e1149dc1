"""Durations, dollars and decimals: exact both ways, and refused with words that help."""

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.quantities import (
    format_decimal,
    format_duration,
    format_usd,
    parse_decimal,
    parse_duration,
    parse_usd,
)

MILLISECONDS = st.integers(0, 99_999 * 3_600_000 + 3_599_999)
NANO_USD = st.integers(0, 10**18 - 1)


@given(MILLISECONDS)
def test_durations_survive_the_round_trip(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)
    assert parse_duration(format_duration(duration)) == duration


@given(NANO_USD)
def test_dollars_survive_the_round_trip_to_the_nano_usd(nano_usd: int) -> None:
    assert parse_usd(format_usd(nano_usd)) == nano_usd


@given(st.decimals(0, 10**9 - 1, places=9))
def test_dollars_are_as_exact_as_decimals(dollars: Decimal) -> None:
    assert parse_usd(f"{dollars:f}") == dollars * 10**9


@given(st.decimals(-(10**8), 10**8, places=6))
def test_decimals_survive_the_round_trip(value: Decimal) -> None:
    assert parse_decimal(format_decimal(value)) == value


@given(st.text(max_size=12))
def test_other_text_is_refused_and_nothing_else_happens(text: str) -> None:
    for parse in (parse_duration, parse_usd, parse_decimal):
        try:
            parse(text)
        except ValueError as error:
            assert str(error).startswith(("must be", "needs a unit"))  # noqa: PT017 - most text is refused


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("500ms", 0.5),
        ("5m", 300),
        ("24h", 86_400),
        ("1h30m", 5_400),
        ("0s", 0),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text).total_seconds() == seconds


@pytest.mark.parametrize(
    ("text", "nano_usd"), [("0", 0), ("2.50", 2_500_000_000), ("0.000000001", 1), ("1000000", 10**15)]
)
def test_dollars(text: str, nano_usd: int) -> None:
    assert parse_usd(text) == nano_usd


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        (20, 'needs a unit (ms, s, m or h): write "20s" for 20 seconds'),
        ("7d", 'must be written in hours: "168h"'),
        ("", "must be a duration"),
        ("-5s", "must be a duration"),
        ("1.5s", "must be a duration"),
        ("5 s", "must be a duration"),
        ("5S", "must be a duration"),
        ("\N{ARABIC-INDIC DIGIT FIVE}s", "must be a duration"),
        (True, "must be a duration"),
        (None, "must be a duration"),
        (-1, "must be a duration"),
    ],
)
def test_what_is_no_duration(given_value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse_duration(given_value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("given_value", "message"),
    [
        (0.8, 'must be a decimal in quotes, which is exact: write "0.8"'),
        (3, 'must be a decimal in quotes, which is exact: write "3"'),
        (1e-7, 'must be a decimal in quotes, which is exact: write "0.0000001"'),
        (-1, "must be dollars"),
        (float("inf"), "must be dollars"),
        (float("nan"), "must be dollars"),
        (True, "must be dollars"),
        ("$2.50", "must be dollars"),
        ("2,50", "must be dollars"),
        ("-1", "must be dollars"),
        ("1e3", "must be dollars"),
        ("0.0000000001", "must be dollars"),
        (" 1", "must be dollars"),
    ],
)
def test_what_is_no_price(given_value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
        parse_usd(given_value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("value", [timedelta(microseconds=1), timedelta(seconds=-1)])
def test_what_cannot_be_written_as_a_duration(value: timedelta) -> None:
    with pytest.raises(ValueError, match="whole, non-negative number of milliseconds"):
        format_duration(value)


def test_negative_dollars_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_usd(-1)
