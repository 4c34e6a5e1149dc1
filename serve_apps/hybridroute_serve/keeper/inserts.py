"""Records and reports into their tables, many rows a statement, and which of them were new.

A part of the store: it runs inside the store's transactions. A statement for each row would hand the interpreter's lock
over as often, and that costs more than the row. An id that is known, or comes twice, is left as it was first stored.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import msgspec

from hybridroute_api.records import AttemptReport, DecisionRecord

__all__ = ["PricedReport", "insert_attempts", "insert_records"]

PricedReport = tuple[AttemptReport, int]
"""A report with its price, and what the LLM alone would have cost, nano-USD."""

_ROWS = 100
"""Of one statement; each takes up to eight of the 32,766 parameters that SQLite knows."""
_RECORD_ROW = "(?, ?, ?, ?)"
_ATTEMPT_ROW = "(?, ?, ?, NOT EXISTS (SELECT 1 FROM requests WHERE request_id = ?), ?, ?, ?)"
_ENCODER = msgspec.json.Encoder()


def insert_records(
    connection: sqlite3.Connection, records: Sequence[DecisionRecord], now: float
) -> list[DecisionRecord]:
    """Store records, and end the wait of their attempts; return those that were not known before."""
    if not records:
        return []
    new = _insert(
        connection,
        "requests (request_id, ingested_at, received_at, body)",
        _RECORD_ROW,
        [(record.request_id, now, record.received_at, _ENCODER.encode(record)) for record in records],
    )
    fresh = [record for record in records if _take(new, record.request_id)]
    connection.execute(
        "UPDATE attempts SET orphan = 0 WHERE orphan = 1 AND request_id IN (SELECT value FROM json_each(?))",
        (_ENCODER.encode([record.request_id for record in fresh]).decode(),),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO conversations (key, path, at) VALUES (?, ?, ?)",
        [
            (record.conversation_key, record.path, now)
            for record in fresh
            if record.conversation_key is not None and record.path is not None
        ],
    )
    return fresh


def insert_attempts(
    connection: sqlite3.Connection, reports: Sequence[PricedReport], now: float
) -> list[PricedReport]:
    """Store reports; return those that were not known before."""
    new = _insert(
        connection,
        "attempts (attempt_id, request_id, ingested_at, orphan, cost_nano_usd, all_llm_nano_usd, body)",
        _ATTEMPT_ROW,
        [
            (
                report.attempt_id,
                report.request_id,
                now,
                report.request_id,
                report.cost_nano_usd,
                all_llm_nano_usd,
                _ENCODER.encode(report),
            )
            for report, all_llm_nano_usd in reports
        ],
    )
    return [priced for priced in reports if _take(new, priced[0].attempt_id)]


def _insert(connection: sqlite3.Connection, into: str, row: str, rows: Sequence[tuple[Any, ...]]) -> set[str]:
    """Insert rows whose first column is their id; return the ids that were not known."""
    name = into[into.index("(") + 1 : into.index(",")]
    new: set[str] = set()
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        found = connection.execute(
            f"INSERT OR IGNORE INTO {into} VALUES {', '.join([row] * len(some))} RETURNING {name}",  # noqa: S608 - constants
            [value for values in some for value in values],
        )
        new.update(key for (key,) in found)
    return new


def _take(new: set[str], key: str) -> bool:
    """Say whether an id is new, once."""
    if key not in new:
        return False
    new.discard(key)
    return True
