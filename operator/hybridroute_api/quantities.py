"""Durations, dollars and decimals as the object writes them, and the exact values they stand for.

Outside they are strings (`10s`, `"2.50"`), because YAML and JSON numbers are binary floats and lose cents.
Inside a duration is a `timedelta` of whole milliseconds, money an integer of nano-USD (1e-9 USD) and any
other fraction a `Decimal`. The `parse_*` functions raise `ValueError` with a message that says what to write
instead; `format_*` writes the shortest form that parses back to the same value.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = [
    "DECIMAL_PATTERN",
    "DURATION_PATTERN",
    "NANO_USD_PER_USD",
    "USD_PATTERN",
    "DecimalString",
    "Duration",
    "NanoUsd",
    "format_decimal",
    "format_duration",
    "format_usd",
    "parse_decimal",
    "parse_duration",
    "parse_usd",
]

NANO_USD_PER_USD: Final = 10**9

DURATION_PATTERN: Final = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
"""The subset of Go's durations that the Gateway API's conventions settled on."""
USD_PATTERN: Final = r"^[0-9]{1,9}(\.[0-9]{1,9})?$"
DECIMAL_PATTERN: Final = r"^-?[0-9]{1,9}(\.[0-9]{1,9})?$"

_DURATION_PART: Final = re.compile(r"([0-9]{1,5})(ms|h|m|s)")
_MILLISECONDS_PER_UNIT: Final = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_duration(text: object) -> timedelta:
    """Return the duration that `text` writes: `500ms`, `10s`, `5m`, `24h`, `1h30m`."""
    if isinstance(text, timedelta):
        return text
    if isinstance(text, int) and not isinstance(text, bool) and text >= 0:
        raise ValueError(f'needs a unit (ms, s, m or h): write "{text}s" for {text} seconds')
    if not isinstance(text, str) or not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        if isinstance(text, str) and re.fullmatch(r"[0-9]{1,3}d", text, re.ASCII):
            raise ValueError(f'must be written in hours: "{int(text[:-1]) * 24}h"')
        raise ValueError(
            'must be a duration of whole numbers with units (h, m, s, ms), for example "10s" or "1h30m"'
        )
    parts = _DURATION_PART.findall(text)
    return timedelta(milliseconds=sum(int(count) * _MILLISECONDS_PER_UNIT[unit] for count, unit in parts))


def format_duration(duration: timedelta) -> str:
    """Return the shortest text that `parse_duration` reads as `duration`: whole milliseconds, not negative."""
    milliseconds, rest = divmod(duration, timedelta(milliseconds=1))
    if rest or milliseconds < 0:
        raise ValueError(f"{duration} is not a whole, non-negative number of milliseconds")
    parts = []
    for unit, size in _MILLISECONDS_PER_UNIT.items():
        count, milliseconds = divmod(milliseconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def parse_usd(text: object) -> int:
    """Return the nano-USD that the decimal string `text` writes: `"2.50"` is 2,500,000,000."""
    if _is_number(text):
        raise ValueError(f'must be a decimal in quotes, which is exact: write "{Decimal(str(text)):f}"')
    if not isinstance(text, str) or not re.fullmatch(USD_PATTERN, text, re.ASCII):
        raise ValueError('must be dollars, in digits with at most nine decimal places, for example "2.50"')
    return int(Decimal(text) * NANO_USD_PER_USD)


def format_usd(nano_usd: int) -> str:
    """Return the decimal string that `parse_usd` reads as `nano_usd`, without trailing zeros."""
    if nano_usd < 0:
        raise ValueError(f"{nano_usd} nano-USD is negative")
    whole, fraction = divmod(nano_usd, NANO_USD_PER_USD)
    return f"{whole}.{fraction:09d}".rstrip("0").rstrip(".") if fraction else str(whole)


def parse_decimal(text: object) -> Decimal:
    """Return the number that the decimal string `text` writes, exactly."""
    if isinstance(text, Decimal):
        return text
    if _is_number(text):
        raise ValueError(f'must be a decimal in quotes, which is exact: write "{Decimal(str(text)):f}"')
    if not isinstance(text, str) or not re.fullmatch(DECIMAL_PATTERN, text, re.ASCII):
        raise ValueError('must be a decimal number in quotes, for example "0.82"')
    return Decimal(text)


def format_decimal(value: Decimal) -> str:
    """Return the decimal string that `parse_decimal` reads as `value`."""
    return f"{value:f}"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 10**9


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "maxLength": 28}),
]
"""A duration with its unit, such as `10s`."""

NanoUsd = Annotated[
    int,
    BeforeValidator(parse_usd),
    PlainSerializer(format_usd, return_type=str),
    WithJsonSchema({"type": "string", "pattern": USD_PATTERN, "maxLength": 19}),
]
"""US dollars as a decimal string outside, nano-USD inside. Python code gives defaults in nano-USD."""

DecimalString = Annotated[
    Decimal,
    BeforeValidator(parse_decimal),
    PlainSerializer(format_decimal, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DECIMAL_PATTERN, "maxLength": 20}),
]
"""An exact decimal number, written as a string."""
