"""A keeper's ear for tests of the journal: decodes batches, counts ids, can be away or refuse."""

from collections import Counter

import msgspec

from hybridroute_api.records import AttemptReport, Batch, DecisionRecord, ReplicaHeartbeat
from hybridroute_serve.journal.transport import Verdict

__all__ = ["CollectingKeeper"]


class CollectingKeeper:
    """Keeps the first report of each id, as the real one does."""

    def __init__(self) -> None:
        self.records: dict[str, DecisionRecord] = {}
        self.attempts: dict[str, AttemptReport] = {}
        self.heartbeats: list[ReplicaHeartbeat] = []
        self.received: Counter[str] = Counter()
        self.batches: list[Batch] = []
        self.away = 0
        """How many batches to turn away before the next is taken."""
        self.poison: bytes | None = None
        """Batches that contain this are refused for good."""
        self.largest_batch_bytes = 0

    async def post(self, body: bytes) -> Verdict:
        if self.away:
            self.away -= 1
            return Verdict.AWAY
        if self.poison is not None and self.poison in body:
            return Verdict.REFUSED
        batch = msgspec.json.decode(body, type=Batch)
        self.largest_batch_bytes = max(self.largest_batch_bytes, len(body))
        self.batches.append(batch)
        for record in batch.records:
            self.received[record.request_id] += 1
            self.records.setdefault(record.request_id, record)
        for attempt in batch.attempts:
            self.received[attempt.attempt_id] += 1
            self.attempts.setdefault(attempt.attempt_id, attempt)
        self.heartbeats.extend(batch.heartbeats)
        return Verdict.ACCEPTED
