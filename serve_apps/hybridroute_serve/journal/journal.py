"""A replica's journal: opens and closes of requests and attempts, in the order in which they happened.

Appending is synchronous, so a request's record is safe from `kill -9` when the call
returns. What is journalled is shipped to the keeper by `shipper`; what a dead replica left is finished by
`adoption`. A new segment starts with the lines of what is still open, so an old one can go as soon as it has
been shipped. It never raises at a caller who serves a request: a failed write is counted and tried again.
"""

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from hybridroute_api.records import AttemptReport, DecisionRecord, OpenAttempt, OpenRequest
from hybridroute_serve.journal.lines import Closes, Kind, OwnerLine, collect_closes, encode_line
from hybridroute_serve.journal.segment import SUFFIX, Segment

__all__ = ["Journal", "Pending"]

_LOG = logging.getLogger(__name__)

SEGMENT_BYTES = 8 * 1024 * 1024
UNWRITTEN_LINES = 10_000
"""Lines kept in memory while the disk is full, about 10 MB; older ones are dropped and counted."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The next stretch of a segment that the keeper has not got."""

    segment: Segment
    end_bytes: int
    closes: Closes


class Journal:
    """Append-only files of one replica. `replica` must be unique to this incarnation of the process."""

    def __init__(
        self,
        directory: Path,
        replica: str,
        app: str,
        started_at: float,
        *,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self.directory = directory
        self.owner = OwnerLine(replica=replica, app=app, started_at=started_at)
        self.write_errors = 0
        self.is_urgent = False
        """What another replica may soon ask the keeper for is not shipped yet."""
        self._segment_bytes = segment_bytes
        self._sequence = 0
        self._fresh_bytes = 0
        self._segments: deque[Segment] = deque()
        self._open_lines: dict[str, bytes] = {}
        self._unwritten: deque[bytes] = deque(maxlen=UNWRITTEN_LINES)

    def start(self) -> None:
        """Make the directory and the first segment. Errors: OSError when the directory cannot be written."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._segments.append(self._create_segment())

    def stop(self) -> None:
        """Let go of the files; remove them if the keeper has everything and nothing is open."""
        done = not self._open_lines and not self._unwritten and not self.unshipped_bytes
        for segment in self._segments:
            if done:
                segment.remove()
            else:
                segment.release()
        self._segments.clear()

    def open_request(self, request: OpenRequest) -> None:
        """Journal a request before it is handed on."""
        line = self._open_lines[request.request_id] = encode_line(Kind.OPEN_REQUEST, request)
        self._append(line)

    def close_request(self, record: DecisionRecord) -> None:
        """Journal a request's record. A request that was refused at once needs no open before it."""
        self._open_lines.pop(record.request_id, None)
        if record.conversation_key is not None:
            self.is_urgent = True
        self._append(encode_line(Kind.RECORD, record))

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Journal an attempt before it is sent."""
        line = self._open_lines[attempt.attempt_id] = encode_line(Kind.OPEN_ATTEMPT, attempt)
        self._append(line)

    def close_attempt(self, report: AttemptReport) -> None:
        """Journal an attempt's report."""
        self._open_lines.pop(report.attempt_id, None)
        self._append(encode_line(Kind.ATTEMPT, report))

    @property
    def open_count(self) -> int:
        """Requests and attempts that are open now."""
        return len(self._open_lines)

    @property
    def unshipped_bytes(self) -> int:
        """Bytes that have not reached the keeper."""
        return sum(segment.size_bytes - segment.shipped_bytes for segment in self._segments)

    def peek_pending(self, limit_bytes: int) -> Pending | None:
        """Read the next lines to ship, about `limit_bytes` of them; None when the keeper has everything."""
        for segment in self._segments:
            if segment.shipped_bytes == segment.size_bytes:
                continue
            data = segment.read_lines(segment.shipped_bytes, limit_bytes)
            if data:
                return Pending(segment, segment.shipped_bytes + len(data), collect_closes(data))
        return None

    def mark_shipped(self, pending: Pending) -> None:
        """Note that the keeper has these lines; remove old segments that are done."""
        pending.segment.shipped_bytes = pending.end_bytes
        self._remove_shipped()

    def _remove_shipped(self) -> None:
        """Remove old segments, the oldest first.

        A close stands in its open's segment or a later one, so whatever is left behind by a crash never shows
        an open without the close that the keeper has seen.
        """
        while len(self._segments) > 1 and self._segments[0].shipped_bytes == self._segments[0].size_bytes:
            self._segments.popleft().remove()

    def rotate_used(self) -> None:
        """Begin a new segment if the last holds anything but opens.

        Done every few seconds, so that what an adopter sends again is what the keeper has heard lately, and
        not what it has forgotten by its retention.
        """
        if self._segments[-1].size_bytes == self._fresh_bytes:
            return
        try:
            self._segments.append(self._create_segment())
        except OSError:
            self.write_errors += 1
        self._remove_shipped()

    def retry_unwritten(self) -> None:
        """Write what a full disk refused before."""
        while self._unwritten and self._write(self._unwritten[0]):
            self._unwritten.popleft()

    def _append(self, line: bytes) -> None:
        if self._unwritten:
            self.retry_unwritten()
        if self._unwritten or not self._write(line):
            self._unwritten.append(line)

    def _write(self, line: bytes) -> bool:
        try:
            segment = self._segments[-1]
            if segment.size_bytes >= self._segment_bytes:
                segment = self._create_segment()
                self._segments.append(segment)
            segment.append(line)
        except OSError as error:
            self.write_errors += 1
            if self.write_errors == 1:
                _LOG.error("journal write failed replica=%s error=%s", self.owner.replica, error)
            return False
        return True

    def _create_segment(self) -> Segment:
        group = "".join(c if c.isalnum() or c in "-_" else "_" for c in self.owner.replica)
        while True:
            self._sequence += 1
            name = f"{group}-{int(self.owner.started_at * 1000)}.{self._sequence:09d}{SUFFIX}"
            segment = Segment.create(self.directory / name)
            if segment is not None:
                break
        try:
            segment.append(encode_line(Kind.OWNER, self.owner) + b"".join(self._open_lines.values()))
        except OSError:
            segment.remove()
            raise
        self._fresh_bytes = segment.shipped_bytes = segment.size_bytes
        return segment
