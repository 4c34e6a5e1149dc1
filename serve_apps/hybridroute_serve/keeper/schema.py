"""The keeper's SQLite file: its tables, and connections to it.

Records are kept as the JSON they are answered with; columns beside it are what queries need. Money is integer
nano-USD. Totals outlive the records they were added up from.
"""

import sqlite3
from pathlib import Path

__all__ = ["SCHEMA_VERSION", "SchemaError", "connect_reader", "connect_writer"]

SCHEMA_VERSION = 2

_LEASE_SUMS = (
    "CREATE TABLE lease_sums (lease_id TEXT PRIMARY KEY, settled_nano_usd INTEGER NOT NULL) WITHOUT ROWID"
)

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE requests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE,
    ingested_at REAL NOT NULL,
    received_at REAL NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX requests_received_at ON requests (received_at);
CREATE TABLE attempts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    attempt_id TEXT NOT NULL UNIQUE,
    request_id TEXT NOT NULL,
    ingested_at REAL NOT NULL,
    orphan INTEGER NOT NULL,
    cost_nano_usd INTEGER NOT NULL,
    all_llm_nano_usd INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX attempts_request_id ON attempts (request_id);
CREATE INDEX attempts_orphans ON attempts (ingested_at) WHERE orphan = 1;
CREATE TABLE totals (
    name TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (name, labels)
) WITHOUT ROWID;
CREATE TABLE replicas (
    replica TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    started_at REAL NOT NULL,
    at REAL NOT NULL,
    busy_seconds REAL NOT NULL,
    charged_seconds REAL NOT NULL,
    idle_seconds REAL NOT NULL,
    ended INTEGER NOT NULL,
    heard_at REAL NOT NULL,
    heartbeat BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE conversations (key TEXT PRIMARY KEY, path TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX conversations_at ON conversations (at);
"""
_STEPS = {0: [*filter(str.strip, _SCHEMA.split(";")), _LEASE_SUMS], 1: [_LEASE_SUMS]}
"""Statements that bring a file of each earlier version to this one; 0 is a new file."""

_BUSY_SECONDS = 5.0
_WAL_BYTES = 16 * 1024 * 1024


class SchemaError(Exception):
    """The file was written by another version of the keeper."""


def connect_writer(path: Path) -> sqlite3.Connection:
    """Open the file to write, and make its tables if it is new. Errors: SchemaError, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = _connect(path)
    # Before any table, or it has no effect: freed pages can be given back to the disk.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    connection.execute("PRAGMA journal_mode = WAL")
    # A commit is on the disk, power cut or not: replicas forget what the keeper has. Commits are grouped.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version in _STEPS:
        for statement in _STEPS[version]:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")
    if version != SCHEMA_VERSION and version not in _STEPS:
        connection.close()
        raise SchemaError(f"{path} has schema {version}, this keeper writes {SCHEMA_VERSION}")
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open the file to read beside the writer."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only = ON")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    # One thread at a time uses a connection, but not always the one that opened it.
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
