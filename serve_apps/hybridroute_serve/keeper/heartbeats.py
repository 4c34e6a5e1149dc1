"""What replicas count for themselves, read from their heartbeats: by how much it grew, and what is so now. Pure.

A replica counts from its start, so a total grows by the difference to its last heartbeat; a counter that fell began
again at zero. A heartbeat that comes after a later one tells nothing new.
"""

from collections import Counter
from collections.abc import Iterable

from hybridroute_api import facts
from hybridroute_api.records import ReplicaHeartbeat
from hybridroute_serve.keeper.metric_table import (
    BREAKER_OPENED,
    HEDGES,
    JOURNAL_ERRORS,
    RETRY_EXTRA_ATTEMPTS,
    RETRY_REFUSED,
)
from hybridroute_serve.keeper.tally import TotalKey, Totals
from hybridroute_serve.retries.breaker import BreakerState

__all__ = ["count_breakers", "count_facts", "count_sequences", "fullest_cache"]

_BY_ROUTE = {
    facts.RETRY_EXTRA_ATTEMPTS: RETRY_EXTRA_ATTEMPTS,
    facts.RETRY_REFUSALS: RETRY_REFUSED,
    facts.HEDGES: HEDGES,
}


def count_facts(route: str, last: ReplicaHeartbeat | None, beat: ReplicaHeartbeat) -> Totals:
    """Return what a heartbeat adds to the totals."""
    if last is not None and beat.at < last.at:
        return Counter()
    before = _counters(route, last) if last is not None else {}
    grown: Totals = Counter()
    for key, count in _counters(route, beat).items():
        known = before.get(key, 0)
        added = count - known if count >= known else count
        if added:
            grown[key] = added
    return grown


def count_breakers(beats: Iterable[ReplicaHeartbeat]) -> dict[tuple[str, str], int]:
    """Return how many replicas have an upstream's breaker so, by upstream and state; every state is there."""
    counts: dict[tuple[str, str], int] = {}
    for beat in beats:
        for name, said in beat.facts.items():
            if name.startswith(facts.BREAKER_STATE):
                upstream = name.removeprefix(facts.BREAKER_STATE)
                for state in BreakerState:
                    counts.setdefault((upstream, state), 0)
                counts[upstream, said] = counts.get((upstream, said), 0) + 1
    return counts


def count_sequences(beats: Iterable[ReplicaHeartbeat]) -> dict[tuple[str], int]:
    """Return the sequences in all engines by state, running and waiting; none where no engine tells."""
    counts: dict[tuple[str], int] = {}
    for beat in beats:
        for name, state in ((facts.ENGINE_RUNNING, "running"), (facts.ENGINE_WAITING, "waiting")):
            if name in beat.facts:
                counts[state,] = counts.get((state,), 0) + int(beat.facts[name])
    return counts


def fullest_cache(beats: Iterable[ReplicaHeartbeat]) -> dict[tuple[()], float]:
    """Return the share that is taken of the fullest engine's cache; nothing where no engine tells."""
    shares = [
        float(beat.facts[facts.ENGINE_CACHE_USE]) for beat in beats if facts.ENGINE_CACHE_USE in beat.facts
    ]
    return {(): max(shares)} if shares else {}


def _counters(route: str, beat: ReplicaHeartbeat) -> dict[TotalKey, int]:
    found: dict[TotalKey, int] = {}
    for name, said in beat.facts.items():
        key: TotalKey
        if name == facts.JOURNAL_ERRORS:
            key = JOURNAL_ERRORS.name, (route, beat.app)
        elif name in _BY_ROUTE:
            key = _BY_ROUTE[name].name, (route,)
        elif name.startswith(facts.BREAKER_OPENED):
            key = BREAKER_OPENED.name, (route, name.removeprefix(facts.BREAKER_OPENED))
        else:
            continue
        if said.isdigit():
            found[key] = int(said)
    return found
