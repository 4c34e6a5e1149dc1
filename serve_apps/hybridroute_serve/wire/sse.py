"""Finds the borders of server-sent events in chunks of any size. It knows nothing of what events say.

Work is linear in the bytes, also for a stream that comes one byte at a time. Line ends are LF, CRLF or CR, as
the standard has it (https://html.spec.whatwg.org/multipage/server-sent-events.html). Used by `streams`.
"""

import re

__all__ = ["EventSplitter", "event_data", "split_events"]

# Atomic groups (3.11): the CR of a CRLF must not be taken for a line end of its own.
_BOUNDARY = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LONGEST_BOUNDARY_BYTES = 4
_USUAL_ENDS = (b"\n\n", b"\r\n\r\n")


class EventSplitter:
    """Cuts a stream of chunks behind its last complete event and keeps the rest for the next chunk."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._searched_bytes = 0

    @property
    def pending_bytes(self) -> int:
        """Length of the incomplete event that is kept."""
        return len(self._pending)

    def feed(self, chunk: bytes) -> bytes:
        """Return all complete events, one behind the other with their blank lines; empty if there is none."""
        if not self._pending and chunk.endswith(_USUAL_ENDS):
            return chunk
        self._pending += chunk
        end = 0
        # What has been searched may end within a boundary.
        position = max(0, self._searched_bytes - _LONGEST_BOUNDARY_BYTES + 1)
        while (match := _BOUNDARY.search(self._pending, position)) is not None:
            if match.end() == len(self._pending) and self._pending.endswith(b"\r"):
                break  # the LF of this CR may be in the next chunk
            end = position = match.end()
        complete = bytes(self._pending[:end])
        del self._pending[:end]
        self._searched_bytes = len(self._pending)
        return complete

    def take_rest(self) -> bytes:
        """Return and forget the incomplete event, with a blank line added; empty if blank."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._searched_bytes = 0
        return rest.rstrip(b"\r\n") + b"\n\n" if rest.strip() else b""


def split_events(block: bytes) -> list[bytes]:
    """Cut a block of complete events into events, each with its blank line."""
    events: list[bytes] = []
    start = 0
    for match in _BOUNDARY.finditer(block):
        events.append(block[start : match.end()])
        start = match.end()
    if start < len(block):
        events.append(block[start:])
    return events


def event_data(event: bytes) -> bytes | None:
    """Return an event's data, its lines joined by LF; None for comments and events without data."""
    lines = [line[5:].removeprefix(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None
