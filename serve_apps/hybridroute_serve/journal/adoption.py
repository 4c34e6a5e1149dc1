"""Finishing the journals of dead replicas: a live one takes over their files and reports what they left.

A file whose `flock` is free has lost its owner. All segments of one owner are locked together, everything in
them is sent again (the keeper knows ids it has seen), each open without a close becomes a report with
`Outcome.LOST`, and the files are removed, oldest first. An adopter that dies on the way leaves its locks free
for the next, which starts over. Without a replica that shares the disk, the keeper itself gives up after a
while (`keeper.store`).

A lost request is recorded with status 500: its client saw the ingress's own 500 or a broken stream, never a
complete answer. It is timed to the file's last change, which the kernel notes of a mapped page only when that is first
written to: within seconds of the process's last sign of life.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hybridroute_api.records import (
    AttemptReport,
    DecisionRecord,
    OpenAttempt,
    OpenRequest,
    ReplicaHeartbeat,
    TokenUsage,
)
from hybridroute_api.vocabulary import Outcome, UsageSource
from hybridroute_serve.journal.lines import (
    CLOSING_KINDS,
    Closes,
    Kind,
    OwnerLine,
    encode_batch,
    parse_attempt_id,
    parse_line,
    parse_open_attempt,
    parse_open_request,
    parse_owner,
    parse_request_id,
)
from hybridroute_serve.journal.segment import SUFFIX, Segment
from hybridroute_serve.journal.shipper import ShipperTiming, Sleep, post_closes
from hybridroute_serve.journal.transport import PostBatch, Verdict

__all__ = ["Adopter", "lose_attempt", "lose_request"]

_LOG = logging.getLogger(__name__)

LOST_STATUS = 500
_ENCODER = msgspec.json.Encoder()


@dataclass(slots=True)
class _Estate:
    """What is known of one dead replica while its lines are read."""

    owner: OwnerLine | None = None
    open_requests: dict[str, OpenRequest] = field(default_factory=dict)
    open_attempts: dict[str, OpenAttempt] = field(default_factory=dict)


class Adopter:
    """Takes over dead replicas' segments in one directory."""

    def __init__(self, directory: Path, post: PostBatch, *, timing: ShipperTiming, sleep: Sleep) -> None:
        self._directory = directory
        self._post = post
        self._batch_bytes = timing.batch_bytes
        self._interval_seconds = timing.adopt_interval_seconds
        self._sleep = sleep
        self.refused_lines = 0

    async def run(self) -> None:
        """Look for the dead now and again, for ever."""
        while True:
            await self.adopt_all()
            await self._sleep(self._interval_seconds)

    async def adopt_all(self) -> Verdict:
        """Finish every dead replica in the directory; AWAY when the keeper was not reached."""
        for paths in _group_segments(self._directory):
            segments = _take_all(paths)
            if not segments:
                continue
            try:
                verdict = await self._adopt(segments)
            finally:
                for segment in segments:
                    segment.release()
            if verdict is Verdict.AWAY:
                return verdict
        return Verdict.ACCEPTED

    async def _adopt(self, segments: list[Segment]) -> Verdict:
        estate = _Estate()
        died_at = max(segment.modified_at for segment in segments)
        for segment in segments:
            for closes in _read_closes(segment, estate, self._batch_bytes):
                if await self._send(estate, closes) is Verdict.AWAY:
                    return Verdict.AWAY
        if estate.owner is not None and await self._report_end(estate.owner, estate, died_at) is Verdict.AWAY:
            return Verdict.AWAY
        for segment in segments:
            segment.path.unlink(missing_ok=True)
        return Verdict.ACCEPTED

    async def _report_end(self, owner: OwnerLine, estate: _Estate, died_at: float) -> Verdict:
        lost = Closes()
        for request in estate.open_requests.values():
            lost.add(Kind.RECORD, _ENCODER.encode(lose_request(request, owner.replica, died_at)))
        for attempt in estate.open_attempts.values():
            lost.add(Kind.ATTEMPT, _ENCODER.encode(lose_attempt(attempt, died_at)))
        if await self._send(estate, lost) is Verdict.AWAY:
            return Verdict.AWAY
        end = ReplicaHeartbeat(
            replica=owner.replica, app=owner.app, started_at=owner.started_at, at=died_at, ended=True
        )
        verdict = await self._post(encode_batch(owner.replica, Closes(), [end]))
        if verdict is not Verdict.AWAY:
            _LOG.warning(
                "dead replica was adopted replica=%s app=%s lost_requests=%d lost_attempts=%d",
                owner.replica,
                owner.app,
                len(estate.open_requests),
                len(estate.open_attempts),
            )
        return verdict

    async def _send(self, estate: _Estate, closes: Closes) -> Verdict:
        if not closes:
            return Verdict.ACCEPTED
        replica = estate.owner.replica if estate.owner is not None else ""
        verdict = await self._post(encode_batch(replica, closes))
        if verdict is Verdict.REFUSED:
            verdict, refused = await post_closes(self._post, replica, closes.singles())
            self.refused_lines += refused
        return verdict


def lose_request(request: OpenRequest, replica: str, last_seen_at: float) -> DecisionRecord:
    """The record of a request whose router died. Pure."""
    return DecisionRecord(
        request_id=request.request_id,
        route=request.route,
        replica=replica,
        api=request.api,
        stream=request.stream,
        requested_model=request.requested_model,
        path=request.path,
        gate=request.gate,
        reason=request.reason,
        status=LOST_STATUS,
        outcome=Outcome.LOST,
        received_at=request.received_at,
        decision_seconds=0.0,
        total_seconds=max(0.0, last_seen_at - request.received_at),
        policy_version=request.policy_version,
        confidence=request.confidence,
        threshold=request.threshold,
        scope_score=request.scope_score,
        scope_threshold=request.scope_threshold,
        nearest=request.nearest,
        artifact=request.artifact,
        cluster=request.cluster,
        topic=request.topic,
    )


def lose_attempt(attempt: OpenAttempt, last_seen_at: float) -> AttemptReport:
    """The report of an attempt whose path died: its prompt is estimated, its answer unknown. Pure."""
    return AttemptReport(
        attempt_id=attempt.attempt_id,
        request_id=attempt.request_id,
        route=attempt.route,
        path=attempt.path,
        upstream=attempt.upstream,
        model=attempt.model,
        gate=attempt.gate,
        started_at=attempt.started_at,
        total_seconds=max(0.0, last_seen_at - attempt.started_at),
        outcome=Outcome.LOST,
        usage=TokenUsage(prompt_tokens=attempt.estimated_prompt_tokens, source=UsageSource.ESTIMATED),
        streamed=attempt.streamed,
        settled_nano_usd=attempt.reserved_nano_usd,
        lease_ids=attempt.lease_ids,
    )


def _group_segments(directory: Path) -> list[list[Path]]:
    """Segment files by owner, each owner's oldest first."""
    groups: dict[str, list[Path]] = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        groups.setdefault(path.name.removesuffix(SUFFIX).rpartition(".")[0], []).append(path)
    return list(groups.values())


def _take_all(paths: list[Path]) -> list[Segment]:
    """Lock all segments of one owner, or none: a live owner holds every one of its own."""
    taken: list[Segment] = []
    for path in paths:
        segment = Segment.take(path)
        if segment is None:
            for held in taken:
                held.release()
            return []
        taken.append(segment)
    return taken


def _read_closes(segment: Segment, estate: _Estate, batch_bytes: int) -> Iterator[Closes]:
    """Note opens in the estate, and yield closes in batches."""
    offset_bytes = 0
    while data := segment.read_lines(offset_bytes, batch_bytes):
        offset_bytes += len(data)
        closes = Closes()
        for raw in data.split(b"\n"):
            line = parse_line(raw)
            if line is None:
                continue
            if line.kind in CLOSING_KINDS:
                closes.add(line.kind, bytes(line.body))
            try:
                _note(estate, line.kind, line.body)
            except msgspec.ValidationError:
                # Written by another version: it cannot be finished, and must not keep the rest from being.
                _LOG.error("journal line was not understood kind=%s file=%s", line.kind, segment.path.name)
        yield closes


def _note(estate: _Estate, kind: Kind, body: msgspec.Raw) -> None:
    match kind:
        case Kind.OWNER:
            estate.owner = parse_owner(body)
        case Kind.OPEN_REQUEST:
            request = parse_open_request(body)
            estate.open_requests[request.request_id] = request
        case Kind.OPEN_ATTEMPT:
            attempt = parse_open_attempt(body)
            estate.open_attempts[attempt.attempt_id] = attempt
        case Kind.RECORD:
            estate.open_requests.pop(parse_request_id(body), None)
        case Kind.ATTEMPT:
            estate.open_attempts.pop(parse_attempt_id(body), None)
