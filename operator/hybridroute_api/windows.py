"""The time that a limit is good for: rolling (`24h`, `90m`, `1d`) or calendar (`1d@Europe/Berlin`, `month[@tz]`).

A window numbers time with ids that never fall as time goes on, and says how many of them count at once. A
calendar window counts one id, its day or month. A rolling window of length L is cut into 24 slots and counts
the current slot and 24 before it, so that *no* interval of length L holds more than the limit.
Days and months begin at the first instant that is local midnight, also where clocks go back over midnight, and
are 23, 24 or 25 hours long as the zone has it. Pure, but for the zone file that is read once; seconds are Unix time.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["CalendarDay", "CalendarMonth", "RollingWindow", "Window", "parse_window"]

_ROLLING = re.compile(r"(?P<count>[1-9][0-9]{0,4})(?P<unit>[mhd])")
_CALENDAR = re.compile(r"(?P<period>1d|month)(?:@(?P<zone>.+))?", re.DOTALL)
_UNIT_SECONDS = {"m": 60, "h": 3_600, "d": 86_400}
_LONGEST_SECONDS = 366 * 86_400
_SLOTS = 24


class Window(Protocol):
    """How a budget numbers time."""

    @property
    def counted_ids(self) -> int:
        """How many ids, the current one included, are counted against the limit."""

    def id_at(self, now_unix: float) -> int:
        """Return the id of an instant; never less than that of an earlier one."""

    def starts_at(self, window_id: int) -> float:
        """Return the instant from which an id, or a later one, is current."""


@dataclass(frozen=True, slots=True)
class RollingWindow:
    """The last so many seconds, in steps of a slot."""

    seconds: int

    @property
    def counted_ids(self) -> int:
        """The slots that an interval of this length can touch."""
        return _SLOTS + 1

    def id_at(self, now_unix: float) -> int:
        """Return the slot."""
        return int(now_unix * _SLOTS // self.seconds)

    def starts_at(self, window_id: int) -> float:
        """Return the slot's start."""
        return window_id * self.seconds / _SLOTS


@dataclass(frozen=True, slots=True)
class CalendarDay:
    """A local day; its id is the date's ordinal."""

    zone: ZoneInfo

    @property
    def counted_ids(self) -> int:
        """Today."""
        return 1

    def id_at(self, now_unix: float) -> int:
        """Return the day."""
        return _settle(self, datetime.fromtimestamp(now_unix, self.zone).date().toordinal(), now_unix)

    def starts_at(self, window_id: int) -> float:
        """Return its first midnight."""
        return _first_midnight(date.fromordinal(window_id), self.zone)


@dataclass(frozen=True, slots=True)
class CalendarMonth:
    """A local month; its id is 12 x year + month - 1."""

    zone: ZoneInfo

    @property
    def counted_ids(self) -> int:
        """This month."""
        return 1

    def id_at(self, now_unix: float) -> int:
        """Return the month."""
        local = datetime.fromtimestamp(now_unix, self.zone).date()
        return _settle(self, local.year * 12 + local.month - 1, now_unix)

    def starts_at(self, window_id: int) -> float:
        """Return the first midnight of its first day."""
        return _first_midnight(date(window_id // 12, window_id % 12 + 1, 1), self.zone)


def parse_window(text: str) -> Window:
    """Read a window as the spec writes it. Raises `ValueError` with what is allowed."""
    rolling = _ROLLING.fullmatch(text)
    if rolling:
        seconds = int(rolling["count"]) * _UNIT_SECONDS[rolling["unit"]]
        if seconds > _LONGEST_SECONDS:
            raise ValueError(f"window {text!r} is longer than 366 days")
        return RollingWindow(seconds)
    calendar = _CALENDAR.fullmatch(text)
    if not calendar:
        raise ValueError(
            f"window {text!r} is neither a length such as 24h, 90m or 7d (rolling), "
            "nor 1d@<time zone>, month or month@<time zone> (calendar)"
        )
    zone = _read_zone(calendar["zone"] or "UTC", text)
    return CalendarDay(zone) if calendar["period"] == "1d" else CalendarMonth(zone)


def _read_zone(name: str, text: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    # A name such as `../x` is a ValueError, one that is a folder of zones an OSError.
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"window {text!r} names no known time zone: {name!r}") from None


def _first_midnight(day: date, zone: ZoneInfo) -> float:
    # fold=0: of two midnights the earlier; of none, the instant at which the clock jumps over it.
    return datetime.combine(day, time(), zone).timestamp()


def _settle(window: Window, guess: int, now_unix: float) -> int:
    """Ids follow `starts_at`, not the local date: that falls back when a clock goes back over midnight."""
    while window.starts_at(guess) > now_unix:
        guess -= 1
    while window.starts_at(guess + 1) <= now_unix:
        guess += 1
    return guess
