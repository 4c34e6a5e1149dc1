"""The keeper's reads, on a connection of their own beside the writer's. Blocking; one thread at a time."""

import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hybridroute_api.records import AUDIT_SUFFIX, AttemptReport, DecisionRecord, ReplicaHeartbeat
from hybridroute_api.vocabulary import PathName
from hybridroute_serve.keeper.schema import connect_reader
from hybridroute_serve.keeper.tally import TotalKey

__all__ = ["KnownReplica", "Reads", "StoredAttempt", "StoredRequest"]

_RECORDS = msgspec.json.Decoder(DecisionRecord)
_ATTEMPTS = msgspec.json.Decoder(AttemptReport)
_HEARTBEATS = msgspec.json.Decoder(ReplicaHeartbeat)


@dataclass(frozen=True, slots=True)
class StoredAttempt:
    """One attempt with its price."""

    report: AttemptReport
    all_llm_nano_usd: int


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """One request; the record is None while only its attempts have come."""

    record: DecisionRecord | None
    attempts: list[StoredAttempt]
    audit: DecisionRecord | None = None
    """That of its audit, if there was one."""

    @property
    def cost_nano_usd(self) -> int:
        """Sum over its attempts."""
        return sum(attempt.report.cost_nano_usd for attempt in self.attempts)


@dataclass(frozen=True, slots=True)
class KnownReplica:
    """One replica's last heartbeat, and when the keeper heard it."""

    heartbeat: ReplicaHeartbeat
    heard_at: float
    ended: bool


class Reads:
    """Queries for the keeper's answers."""

    def __init__(self, path: Path) -> None:
        self._connection = connect_reader(path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def read_epoch(self) -> int:
        """The epoch of the keeper that may write."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'epoch'").fetchone()
        return int(row[0])

    def read_totals(self) -> dict[TotalKey, int]:
        """All totals, as of one moment."""
        rows = self._connection.execute("SELECT name, labels, value FROM totals")
        return {(name, tuple(json.loads(labels))): value for name, labels, value in rows}

    def read_request(self, request_id: str) -> StoredRequest | None:
        """One request with its attempts, oldest first."""
        record = self._read_record(request_id)
        attempts = self._read_attempts(request_id)
        if record is None and not attempts:
            return None
        return StoredRequest(record, attempts, self._read_record(request_id + AUDIT_SUFFIX))

    def read_audits(self, limit: int) -> list[tuple[DecisionRecord, DecisionRecord | None]]:
        """The latest audits, each with the record of the request that was answered, newest first."""
        rows = self._connection.execute(
            "SELECT audits.body, answered.body FROM requests AS audits LEFT JOIN requests AS answered"
            " ON answered.request_id = substr(audits.request_id, 1, length(audits.request_id) - ?)"
            " WHERE audits.request_id LIKE ? ORDER BY audits.received_at DESC, audits.seq DESC LIMIT ?",
            (len(AUDIT_SUFFIX), f"%{AUDIT_SUFFIX}", limit),
        )
        return [(_RECORDS.decode(audit), _RECORDS.decode(body) if body else None) for audit, body in rows]

    def read_latest(self, limit: int, since: float) -> list[StoredRequest]:
        """Requests received at or after a Unix time, newest first."""
        rows = self._connection.execute(
            "SELECT body FROM requests WHERE received_at >= ? ORDER BY received_at DESC, seq DESC LIMIT ?",
            (since, limit),
        ).fetchall()
        records = [_RECORDS.decode(body) for (body,) in rows]
        return [StoredRequest(record, self._read_attempts(record.request_id)) for record in records]

    def read_costs(self, limit: int, since: float) -> list[tuple[DecisionRecord, int]]:
        """The latest ended requests with what their attempts cost, nano-USD, newest first."""
        rows = self._connection.execute(
            "SELECT body, (SELECT coalesce(sum(cost_nano_usd), 0) FROM attempts"
            " WHERE attempts.request_id = requests.request_id) FROM requests"
            " WHERE received_at >= ? ORDER BY received_at DESC, seq DESC LIMIT ?",
            (since, limit),
        )
        return [(_RECORDS.decode(body), int(cost)) for body, cost in rows]

    def read_conversation(self, key: str) -> PathName | None:
        """Where a conversation was served last."""
        row = self._connection.execute("SELECT path FROM conversations WHERE key = ?", (key,)).fetchone()
        return PathName(row[0]) if row is not None else None

    def read_replicas(self) -> list[KnownReplica]:
        """All replicas that are remembered, by app and start."""
        rows = self._connection.execute(
            "SELECT heartbeat, heard_at, ended FROM replicas ORDER BY app, started_at"
        )
        return [KnownReplica(_HEARTBEATS.decode(body), at, bool(ended)) for body, at, ended in rows]

    def _read_record(self, request_id: str) -> DecisionRecord | None:
        row = self._connection.execute(
            "SELECT body FROM requests WHERE request_id = ?", (request_id,)
        ).fetchone()
        return _RECORDS.decode(row[0]) if row is not None else None

    def _read_attempts(self, request_id: str) -> list[StoredAttempt]:
        rows: sqlite3.Cursor = self._connection.execute(
            "SELECT body, all_llm_nano_usd FROM attempts WHERE request_id = ? ORDER BY seq", (request_id,)
        )
        return [StoredAttempt(_ATTEMPTS.decode(body), all_llm) for body, all_llm in rows]
