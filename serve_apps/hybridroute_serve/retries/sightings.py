"""What replicas have seen of upstreams, so that one which has seen nothing need not find out at its clients' cost.

A replica says what its own attempts have met lately, never what it was told, so that no rumour outlives its cause.
It is told which upstreams the others have found down: at least as many say so as say otherwise. Only a breaker that
has seen nothing itself heeds that (`Breaker.open_as_told`), so one replica with a broken network stops nobody else.
Not here: when a breaker opens (`breaker`). The keeper keeps the board, in memory. Pure; times are seconds of its
monotonic clock.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Sighting", "SightingBoard", "UpstreamPlace"]


@dataclass(frozen=True, slots=True)
class UpstreamPlace:
    """An upstream at an address: what was seen of another address under the same name says nothing."""

    name: str
    base_url: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a replica's own attempts at an upstream have met lately."""

    place: UpstreamPlace
    is_down: bool
    """Its breaker is not closed."""


class SightingBoard:
    """The latest word of each replica."""

    def __init__(self, memory_seconds: float) -> None:
        """`memory_seconds`: for how long a replica's word counts without a newer one."""
        self._memory_seconds = memory_seconds
        self._said: dict[str, tuple[float, tuple[Sighting, ...]]] = {}

    def note(self, replica: str, sightings: Sequence[Sighting], now: float) -> None:
        """Take a replica's word; it replaces the one before."""
        self._said[replica] = (now + self._memory_seconds, tuple(sightings))

    def forget(self, replica: str) -> None:
        """Drop the word of a replica that has stopped."""
        self._said.pop(replica, None)

    def down_for(self, replica: str, now: float) -> tuple[UpstreamPlace, ...]:
        """Return the upstreams that the other replicas have found down."""
        self._said = {name: said for name, said in self._said.items() if said[0] > now}
        balance: Counter[UpstreamPlace] = Counter()
        for name, (_, sightings) in self._said.items():
            if name != replica:
                for sighting in sightings:
                    balance[sighting.place] += 1 if sighting.is_down else -1
        return tuple(place for place, count in balance.items() if count >= 0)
