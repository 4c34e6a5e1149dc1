"""How long a replica lived, and how much of that nobody was charged with. Pure.

Idle time is lifetime minus busy time. While a replica lives, busy is what it says itself (requests in flight
count); once it has ended, busy is what its attempts were charged with, so that busy and idle dollars add up to
its lifetime. A killed replica lives to its last heartbeat plus one interval, or to the last write of its
journal when that was adopted. Idle time only grows: it feeds a counter.
"""

from dataclasses import dataclass, replace

from hybridroute_api.records import ReplicaHeartbeat

__all__ = ["HEARTBEAT_INTERVAL_SECONDS", "ReplicaLife", "advance_life", "end_life"]

HEARTBEAT_INTERVAL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaLife:
    """One replica's life so far. Times are Unix seconds of its own clock."""

    replica: str
    app: str
    started_at: float
    at: float
    """Last sign of life."""
    busy_seconds: float = 0.0
    """As its heartbeats say."""
    charged_seconds: float = 0.0
    """Sum over its attempts' shares."""
    idle_seconds: float = 0.0
    """Idle time accounted for."""
    ended: bool = False


def advance_life(life: ReplicaLife | None, beat: ReplicaHeartbeat) -> ReplicaLife:
    """Take a heartbeat into account; one that comes late or twice changes nothing."""
    if life is None:
        life = ReplicaLife(beat.replica, beat.app, beat.started_at, at=beat.started_at)
    life = replace(
        life, at=max(life.at, beat.at), busy_seconds=max(life.busy_seconds, beat.busy_seconds), ended=False
    )
    if beat.ended:
        return end_life(life, life.at)
    return _with_idle(life, life.at - life.started_at - life.busy_seconds)


def end_life(life: ReplicaLife, ended_at: float) -> ReplicaLife:
    """Close the account of a replica that lived until then."""
    life = replace(life, at=max(life.at, ended_at), ended=True)
    return _with_idle(life, life.at - life.started_at - life.charged_seconds)


def _with_idle(life: ReplicaLife, idle_seconds: float) -> ReplicaLife:
    return replace(life, idle_seconds=max(life.idle_seconds, idle_seconds))
