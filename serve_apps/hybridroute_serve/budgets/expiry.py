"""When a reservation or a lease whose holder has gone silent may be ended.

A holder may start attempts until `lease_seconds` after it *sent* its last request, by its own monotonic clock;
what it started then is over after the longest request. The keeper waits for both and for the difference of the
clocks, counted on its own monotonic clock from the moment it last heard of the holder, so that no step of a
wall clock, either way, ends anything early. After a restart everything counts as heard of just now.
Pure; times are seconds of the keeper's monotonic clock.
"""

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Expiries", "HoldTerms"]


@dataclass(frozen=True, slots=True)
class HoldTerms:
    """How long money may be held."""

    lease_seconds: float = 120.0
    """How long a holder may start attempts without hearing from the keeper."""
    longest_request_seconds: float = 600.0
    """Above every upstream's total timeout."""
    clock_skew_seconds: float = 10.0
    """How far two monotonic clocks drift apart in that time, with room to spare."""

    @property
    def silence_seconds(self) -> float:
        """After so much silence nothing is under way any more."""
        return self.lease_seconds + self.longest_request_seconds + self.clock_skew_seconds


class Expiries:
    """When each holder was last heard of."""

    __slots__ = ("_heard_at", "_terms")

    def __init__(self, terms: HoldTerms, held: Iterable[str], now: float) -> None:
        """`held`: the keys of everything that the stored ledger holds."""
        self._terms = terms
        self._heard_at = dict.fromkeys(held, now)

    def change_terms(self, terms: HoldTerms) -> None:
        """Follow a live policy with other timeouts."""
        self._terms = terms

    def heard(self, key: str, now: float) -> None:
        """Note that a lease or reservation was asked for or reported on."""
        self._heard_at[key] = now

    def forget(self, key: str) -> None:
        """Drop what has ended."""
        self._heard_at.pop(key, None)

    def due(self, now: float) -> tuple[str, ...]:
        """Return what may be ended now."""
        silent_since = now - self._terms.silence_seconds
        return tuple(key for key, heard_at in self._heard_at.items() if heard_at <= silent_since)
