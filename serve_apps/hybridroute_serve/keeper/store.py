"""The keeper's writes: batches in, records and totals in one transaction.

Blocking, and used by one thread at a time (`committer`). Inserts are idempotent by id, so whatever is sent twice
is counted once. Each transaction checks the epoch: a newer keeper on the same file makes this one fail loudly.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hybridroute_api.records import AttemptReport, Batch, DecisionRecord
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Gate, Outcome
from hybridroute_serve.costs.pricing import is_served_on_trial, price_all_llm, price_report
from hybridroute_serve.keeper.drift import DriftDesk
from hybridroute_serve.keeper.inserts import insert_attempts, insert_records
from hybridroute_serve.keeper.lease_sums import LeaseSums
from hybridroute_serve.keeper.metric_table import ALL_LLM, BATCHES, DUPLICATES
from hybridroute_serve.keeper.replica_table import SILENT_SECONDS, ReplicaTable
from hybridroute_serve.keeper.schema import connect_writer
from hybridroute_serve.keeper.tally import Totals, tally_attempt, tally_record

__all__ = ["FencedError", "Store"]

ORPHAN_SECONDS = 900.0
"""An attempt whose record has not come for so long gets one, or for twice the longest request if that is more: its
request may go on with others. A replica that lives or shares its disk with one that does reports within seconds."""

_ATTEMPTS = msgspec.json.Decoder(AttemptReport)
_RECORDS = msgspec.json.Decoder(DecisionRecord)


class FencedError(Exception):
    """A newer keeper has taken over the file; this one must not write."""


class Store:
    """One keeper's hold on the file. Opening it begins a new epoch."""

    def __init__(self, path: Path, route: str, clock: Callable[[], float]) -> None:
        self._route = route
        self._clock = clock
        self._opened_at = clock()
        self._connection = connect_writer(path)
        self._replicas = ReplicaTable(self._connection, route)
        self._lease_sums = LeaseSums(self._connection)
        self.drift = DriftDesk(route, self._read_meta("drift"))
        self._connection.execute("BEGIN IMMEDIATE")
        self.epoch = int(self._read_meta("epoch") or 0) + 1
        self._write_meta("epoch", str(self.epoch))
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def load_policy(self) -> LivePolicy | None:
        """Return the last good live policy; None before the first."""
        text = self._read_meta("live_policy")
        return LivePolicy.model_validate_json(text) if text is not None else None

    def save_policy(self, policy: LivePolicy) -> None:
        """Keep a good live policy for the next start."""
        with self._transaction():
            self._write_meta("live_policy", policy.model_dump_json())

    def apply_batches(self, batches: Sequence[Batch], policy: LivePolicy) -> None:
        """Store batches in one transaction: all of them or, with an error, none. `drift` sees each record once.

        Errors: FencedError; sqlite3.Error; OverflowError for numbers that no column holds.
        """
        now = self._clock()
        totals: Totals = Counter()
        with self._transaction():
            fresh: list[DecisionRecord] = []
            for batch in batches:
                fresh += self._apply(batch, policy, now, totals)
                totals[BATCHES.name, (self._route,)] += 1
            draft = self.drift.observe(fresh, now, totals)
            if draft is not None:
                self._write_meta("drift", draft.encode())
            self._add(totals)
        if draft is not None:
            self.drift.accept(draft)

    def end_silent_replicas(self, policy: LivePolicy) -> int:
        """Close the lives of replicas that went without a word; return how many.

        After its own start a keeper waits for them first: the silence may have been its own.
        """
        now = self._clock()
        if now - self._opened_at < SILENT_SECONDS:
            return 0
        totals: Totals = Counter()
        with self._transaction():
            ended = self._replicas.end_silent(policy, now, totals)
            self._add(totals)
        return ended

    def record_orphans(self, policy: LivePolicy) -> int:
        """Give attempts whose record never came a lost one; return how many requests."""
        now = self._clock()
        longest_seconds = max(policy.llm.longest_seconds, policy.slm.total_seconds)
        totals: Totals = Counter()
        with self._transaction():
            rows = self._connection.execute(
                "SELECT body FROM attempts WHERE orphan = 1 AND ingested_at < ? ORDER BY seq",
                (now - max(ORPHAN_SECONDS, 2 * longest_seconds),),
            ).fetchall()
            lost = [_orphan_record(_ATTEMPTS.decode(body)) for (body,) in rows]
            fresh = insert_records(self._connection, lost, now)
            for record in fresh:
                tally_record(record, totals)
            self._add(totals)
        return len(fresh)

    def prune(self, max_age_seconds: float, keep_seconds: float, limit: int, *, full: bool) -> int:
        """Delete the oldest records, at most `limit`: those past their age, or, when `full`, any.

        What was stored in the last `keep_seconds` stays: it may be sent again. Returns how many went.
        """
        now = self._clock()
        before = now - keep_seconds if full else now - max(max_age_seconds, keep_seconds)
        with self._transaction():
            connection = self._connection
            last = connection.execute(
                "SELECT max(seq) FROM (SELECT seq FROM requests WHERE ingested_at < ? ORDER BY seq LIMIT ?)",
                (before, limit),
            ).fetchone()[0]
            if last is None:
                return 0
            connection.execute(
                "DELETE FROM attempts WHERE request_id IN (SELECT request_id FROM requests WHERE seq <= ?)",
                (last,),
            )
            gone = connection.execute("DELETE FROM requests WHERE seq <= ?", (last,)).rowcount
            connection.execute(
                "DELETE FROM conversations WHERE at < ?", (now - max(max_age_seconds, keep_seconds),)
            )
        connection.execute("PRAGMA incremental_vacuum").fetchall()
        return gone

    def add_totals(self, totals: Totals) -> None:
        """Add what is counted elsewhere."""
        with self._transaction():
            self._add(totals)

    def read_lease_sums(self, lease_ids: Sequence[str]) -> dict[str, int]:
        """Return what reported attempts settled in each of these dollar leases, nano-USD."""
        return self._lease_sums.read(lease_ids)

    def keep_lease_sums(self, lease_ids: Sequence[str]) -> None:
        """Forget the sums of all leases but these, which are out."""
        with self._transaction():
            self._lease_sums.keep(lease_ids)

    @property
    def has_ledger(self) -> bool:
        """Whether a dollar ledger was ever made beside this file."""
        return self._read_meta("has_ledger") is not None

    def note_ledger(self) -> None:
        """Note for good that a dollar ledger was made; from now on a missing one has been lost."""
        with self._transaction():
            self._write_meta("has_ledger", "1")

    def used_bytes(self) -> int:
        """Size of what is stored, free pages apart."""
        pages, free, size = (
            self._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _apply(self, batch: Batch, policy: LivePolicy, now: float, totals: Totals) -> list[DecisionRecord]:
        """Store one batch; return the records that were not known before."""
        # A life begins before its attempts are charged to it, and ends after.
        for beat in batch.heartbeats:
            if not beat.ended:
                self._replicas.take_heartbeat(beat, policy, now, totals)
        fresh = insert_records(self._connection, batch.records, now)
        for record in fresh:
            tally_record(record, totals)
            self._judge_trial(record, policy, totals)
        _count_known(totals, self._route, "request", len(batch.records) - len(fresh))
        charged_seconds = 0.0
        sums: Counter[str] = Counter()
        primary = policy.llm.primary.prices
        priced = [price_report(report, policy) for report in batch.attempts]
        counted = [
            (report, 0 if self._is_given_up(report) else price_all_llm(report, primary)) for report in priced
        ]
        new = insert_attempts(self._connection, counted, now)
        for report, all_llm_nano_usd in new:
            tally_attempt(report, all_llm_nano_usd, totals)
            charged_seconds += report.busy_seconds
            for lease_id in report.lease_ids:
                sums[lease_id] += report.settled_nano_usd or 0
        self._lease_sums.add(sums)
        _count_known(totals, self._route, "attempt", len(priced) - len(new))
        if charged_seconds:
            self._replicas.charge(batch.replica, charged_seconds)
        for beat in batch.heartbeats:
            if beat.ended:
                self._replicas.take_heartbeat(beat, policy, now, totals)
        return fresh

    def _judge_trial(self, record: DecisionRecord, policy: LivePolicy, totals: Totals) -> None:
        """Count what the LLM would have cost in the place of an SLM's answer that stood, if its report is here."""
        if not is_served_on_trial(record):
            return
        rows = self._connection.execute(
            "SELECT attempt_id, body FROM attempts WHERE request_id = ?", (record.request_id,)
        ).fetchall()
        for attempt_id, body in rows:
            report = _ATTEMPTS.decode(body)
            if report.on_trial:
                all_llm = price_all_llm(report, policy.llm.primary.prices)
                totals[ALL_LLM.name, (report.route,)] += all_llm
                self._connection.execute(
                    "UPDATE attempts SET all_llm_nano_usd = ? WHERE attempt_id = ?", (all_llm, attempt_id)
                )

    def _is_given_up(self, report: AttemptReport) -> bool:
        """Say whether it is the SLM's of a cascade, and not known to be what the client got."""
        if not report.on_trial:
            return False
        row = self._connection.execute(
            "SELECT body FROM requests WHERE request_id = ?", (report.request_id,)
        ).fetchone()
        return row is None or not is_served_on_trial(_RECORDS.decode(row[0]))

    def _add(self, totals: Totals) -> None:
        self._connection.executemany(
            "INSERT INTO totals (name, labels, value) VALUES (?, ?, ?)"
            " ON CONFLICT (name, labels) DO UPDATE SET value = value + excluded.value",
            [(name, json.dumps(labels), value) for (name, labels), value in totals.items()],
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            epoch = int(self._read_meta("epoch") or 0)
            if epoch != self.epoch:
                raise FencedError(f"keeper of epoch {self.epoch} was superseded by epoch {epoch}")
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _read_meta(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _write_meta(self, name: str, value: str) -> None:
        self._connection.execute(
            "INSERT INTO meta (name, value) VALUES (?, ?)"
            " ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            (name, value),
        )


def _count_known(totals: Totals, route: str, kind: str, count: int) -> None:
    if count:
        totals[DUPLICATES.name, (route, kind)] += count


def _orphan_record(attempt: AttemptReport) -> DecisionRecord:
    return DecisionRecord(
        request_id=attempt.request_id,
        route=attempt.route,
        replica="",
        api=None,
        stream=attempt.streamed,
        requested_model=attempt.model,
        path=attempt.path,
        gate=Gate(attempt.gate) if attempt.gate in set(Gate) else None,
        reason="the router's record never came",
        status=500,
        outcome=Outcome.LOST,
        received_at=attempt.started_at,
        decision_seconds=0.0,
        total_seconds=attempt.total_seconds,
        first_byte_seconds=attempt.first_byte_seconds,
    )
