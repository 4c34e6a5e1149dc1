"""The journal's line format: one JSON object a line, `{"kind": …, "body": …}`. Pure.

A close travels to the keeper as the bytes it was written with: the shipper sees its kind by how it begins and copies
its body into a batch, so that a record is encoded once in its life and parsed by nobody but the keeper. Used by the
journal, the shipper and adoption.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from hybridroute_api.records import AttemptReport, DecisionRecord, OpenAttempt, OpenRequest, ReplicaHeartbeat

__all__ = [
    "CLOSING_KINDS",
    "Closes",
    "Kind",
    "Line",
    "OwnerLine",
    "collect_closes",
    "encode_batch",
    "encode_line",
    "parse_attempt_id",
    "parse_line",
    "parse_open_attempt",
    "parse_open_request",
    "parse_owner",
    "parse_request_id",
]


class Kind(StrEnum):
    """What a line holds."""

    OWNER = "owner"
    OPEN_REQUEST = "open_request"
    RECORD = "record"
    OPEN_ATTEMPT = "open_attempt"
    ATTEMPT = "attempt"


CLOSING_KINDS = frozenset({Kind.RECORD, Kind.ATTEMPT})


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """First line of every segment: whose it is."""

    replica: str
    app: str
    started_at: float


class Line(msgspec.Struct, frozen=True):
    """One parsed line; the body stays encoded."""

    kind: Kind
    body: msgspec.Raw


class _RequestId(msgspec.Struct):
    request_id: str


class _AttemptId(msgspec.Struct):
    attempt_id: str


_ENCODER = msgspec.json.Encoder()
_LINES = msgspec.json.Decoder(Line)
_REQUEST_IDS = msgspec.json.Decoder(_RequestId)
_ATTEMPT_IDS = msgspec.json.Decoder(_AttemptId)
_OWNERS = msgspec.json.Decoder(OwnerLine)
_OPEN_REQUESTS = msgspec.json.Decoder(OpenRequest)
_OPEN_ATTEMPTS = msgspec.json.Decoder(OpenAttempt)
_PREFIXES = {kind: f'{{"kind":"{kind}","body":'.encode() for kind in Kind}
_CLOSING_PREFIXES = tuple((kind, _PREFIXES[kind]) for kind in (Kind.RECORD, Kind.ATTEMPT))


def encode_line(
    kind: Kind, body: OwnerLine | OpenRequest | DecisionRecord | OpenAttempt | AttemptReport
) -> bytes:
    """Encode one line with its newline."""
    return b"%b%b}\n" % (_PREFIXES[kind], _ENCODER.encode(body))


def parse_line(line: bytes) -> Line | None:
    """Parse one line; None for one that is not whole."""
    try:
        return _LINES.decode(line)
    except msgspec.DecodeError:
        return None


def collect_closes(data: bytes) -> "Closes":
    """Return the closes among whole lines of one's own journal, which need no parsing."""
    closes = Closes()
    for line in data.split(b"\n"):
        for kind, prefix in _CLOSING_PREFIXES:
            if line.startswith(prefix):
                closes.add(kind, line[len(prefix) : -1])
                break
    return closes


def parse_request_id(body: msgspec.Raw) -> str:
    """Read the id of an open or closed request."""
    return _REQUEST_IDS.decode(body).request_id


def parse_attempt_id(body: msgspec.Raw) -> str:
    """Read the id of an open or closed attempt."""
    return _ATTEMPT_IDS.decode(body).attempt_id


def parse_owner(body: msgspec.Raw) -> OwnerLine:
    """Read a segment's first line."""
    return _OWNERS.decode(body)


def parse_open_request(body: msgspec.Raw) -> OpenRequest:
    """Read an open request."""
    return _OPEN_REQUESTS.decode(body)


def parse_open_attempt(body: msgspec.Raw) -> OpenAttempt:
    """Read an open attempt."""
    return _OPEN_ATTEMPTS.decode(body)


@dataclass(slots=True)
class Closes:
    """Encoded records and attempts that travel together."""

    records: list[bytes] = field(default_factory=list)
    attempts: list[bytes] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, kind: Kind, body: bytes) -> None:
        """Add one encoded close of a closing kind."""
        (self.records if kind is Kind.RECORD else self.attempts).append(body)
        self.size_bytes += len(body)

    def singles(self) -> list["Closes"]:
        """Split into batches of one, to find the one that the keeper refuses."""
        alone = [Closes(records=[body], size_bytes=len(body)) for body in self.records]
        return alone + [Closes(attempts=[body], size_bytes=len(body)) for body in self.attempts]

    def __bool__(self) -> bool:
        return bool(self.records or self.attempts)


def encode_batch(replica: str, closes: Closes, heartbeats: Iterable[ReplicaHeartbeat] = ()) -> bytes:
    """Encode a `Batch` around closes that are encoded already."""
    return b'{"replica":%b,"records":[%b],"attempts":[%b],"heartbeats":%b}' % (
        _ENCODER.encode(replica),
        b",".join(closes.records),
        b",".join(closes.attempts),
        _ENCODER.encode(list(heartbeats)),
    )
