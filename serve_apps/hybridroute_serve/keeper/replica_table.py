"""The replicas that the keeper knows: heartbeats in, idle time out.

A part of the store: it runs inside the store's transactions. The arithmetic is in `lifetimes`.
"""

import sqlite3

import msgspec

from hybridroute_api.records import ReplicaHeartbeat
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import PathName
from hybridroute_serve.costs.pricing import price_busy_seconds
from hybridroute_serve.keeper.heartbeats import count_facts
from hybridroute_serve.keeper.lifetimes import (
    HEARTBEAT_INTERVAL_SECONDS,
    ReplicaLife,
    advance_life,
    end_life,
)
from hybridroute_serve.keeper.metric_table import SLM_IDLE
from hybridroute_serve.keeper.tally import Totals

__all__ = ["SILENT_SECONDS", "ReplicaTable"]

SILENT_SECONDS = 30.0
"""A replica without a heartbeat for so long has ended: 15 missed, more than any garbage collection or stall."""
REPLICA_MEMORY_SECONDS = 86_400.0
"""How long ended replicas are shown; their idle time stays in the totals."""

_ENCODER = msgspec.json.Encoder()
_HEARTBEATS = msgspec.json.Decoder(ReplicaHeartbeat)
_SELECT = (
    "SELECT replica, app, started_at, at, busy_seconds, charged_seconds, idle_seconds, ended, heartbeat"
    " FROM replicas"
)
_Row = tuple[str, str, float, float, float, float, float, int, bytes]


class ReplicaTable:
    """Rows of one route's replicas."""

    def __init__(self, connection: sqlite3.Connection, route: str) -> None:
        self._connection = connection
        self._route = route

    def take_heartbeat(self, beat: ReplicaHeartbeat, policy: LivePolicy, now: float, totals: Totals) -> None:
        """Note a heartbeat, and add the idle time and what it has counted to the totals."""
        row = self._connection.execute(f"{_SELECT} WHERE replica = ?", (beat.replica,)).fetchone()
        before = _life(row) if row is not None else None
        last = _HEARTBEATS.decode(row[-1]) if row is not None else None
        totals.update(count_facts(self._route, last, beat))
        self._save(before, advance_life(before, beat), policy, totals)
        self._connection.execute(
            "UPDATE replicas SET heard_at = ?, heartbeat = ? WHERE replica = ?",
            (now, _ENCODER.encode(beat if last is None or beat.at >= last.at else last), beat.replica),
        )

    def charge(self, replica: str, busy_seconds: float) -> None:
        """Note what a replica's attempts were charged with."""
        self._connection.execute(
            "UPDATE replicas SET charged_seconds = charged_seconds + ? WHERE replica = ?",
            (busy_seconds, replica),
        )

    def end_silent(self, policy: LivePolicy, now: float, totals: Totals) -> int:
        """End lives that went silent, forget those that ended long ago; return how many ended."""
        silent = self._connection.execute(
            f"{_SELECT} WHERE ended = 0 AND heard_at < ?", (now - SILENT_SECONDS,)
        ).fetchall()
        for row in silent:
            life = _life(row)
            self._save(life, end_life(life, life.at + HEARTBEAT_INTERVAL_SECONDS), policy, totals)
        self._connection.execute(
            "DELETE FROM replicas WHERE ended = 1 AND heard_at < ?", (now - REPLICA_MEMORY_SECONDS,)
        )
        return len(silent)

    def _save(
        self, before: ReplicaLife | None, after: ReplicaLife, policy: LivePolicy, totals: Totals
    ) -> None:
        self._connection.execute(
            "INSERT INTO replicas (replica, app, started_at, at, busy_seconds, charged_seconds, idle_seconds,"
            " ended, heard_at, heartbeat) VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, x'')"
            " ON CONFLICT (replica) DO UPDATE SET at = excluded.at, busy_seconds = excluded.busy_seconds,"
            " idle_seconds = excluded.idle_seconds, ended = excluded.ended",
            (
                after.replica,
                after.app,
                after.started_at,
                after.at,
                after.busy_seconds,
                after.charged_seconds,
                after.idle_seconds,
                after.ended,
            ),
        )
        if after.app == PathName.SLM:
            idle_seconds = after.idle_seconds - (before.idle_seconds if before is not None else 0.0)
            price = price_busy_seconds(idle_seconds, policy.slm.machine_hour_nano_usd)
            totals[SLM_IDLE.name, (self._route,)] += price


def _life(row: _Row) -> ReplicaLife:
    replica, app, started_at, at, busy_seconds, charged_seconds, idle_seconds, ended, _ = row
    return ReplicaLife(
        replica, app, started_at, at, busy_seconds, charged_seconds, idle_seconds, ended=bool(ended)
    )
