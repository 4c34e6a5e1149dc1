"""Passes a stream of chat or completion chunks on: holds it until it commits, then only watches it.

Before the commit every event is read. After it, a chunk is searched for a few byte strings and passed as it
is; only chunks that hold one of them are read: usage to be noted or hidden, an error, the end. No I/O: the relay
feeds chunks in and sends what comes out.
"""

import re

from hybridroute_api.records import TokenUsage
from hybridroute_serve.wire.answers import AnswerFacts, InvalidAnswerError, parse_event
from hybridroute_serve.wire.sse import EventSplitter, split_events
from hybridroute_serve.wire.token_estimates import estimate_tokens_of_bytes

__all__ = ["StreamFilter"]

_FINISH_REASON = re.compile(rb'"finish_reason"\s*:\s*"')


class StreamFilter:
    """One stream. Feed it chunks; send what it returns, unless it says `failed` before `committed`."""

    def __init__(self, *, hide_usage: bool, max_held_bytes: int) -> None:
        self._hide_usage = hide_usage
        self._max_held_bytes = max_held_bytes
        self._splitter = EventSplitter()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._finished = False
        self._events = 0
        self._content_bytes = 0
        self._envelope_bytes = 0
        self.committed = False
        """Something has been released to the client: no other upstream can take over."""
        self.done = False
        """`[DONE]` has been seen; what follows it is dropped."""
        self.failed = False
        """The upstream sent an error event; after the commit it is the last thing released."""
        self.usage: TokenUsage | None = None
        """The last usage seen."""

    def feed(self, chunk: bytes) -> bytes:
        """Take a chunk; return what may be sent now. Raises `InvalidAnswerError` before the commit."""
        block = self._splitter.feed(chunk)
        released = self._pass(block) if block else b""
        if self._splitter.pending_bytes + self._held_bytes > self._max_held_bytes:
            raise InvalidAnswerError(f"stream held more than {self._max_held_bytes} bytes without an event")
        return released

    def end(self) -> bytes:
        """Take the orderly end of the body; return what may still be sent, never a piece of an event."""
        rest = self._splitter.take_rest()
        if not rest or (self.committed and not _is_readable(rest)):
            return b""
        return self._pass(rest)

    @property
    def complete(self) -> bool:
        """Whether the stream had its end: `[DONE]`, or a finish reason where an upstream sends no `[DONE]`."""
        return self.done or self._finished

    def estimate_completion_tokens(self) -> int:
        """Estimate the tokens seen so far.

        Upstreams send about a token an event; the content's bytes, all bytes less the envelope of the first
        event with content, speak where an event holds many.
        """
        return max(self._events, estimate_tokens_of_bytes(self._content_bytes))

    def _pass(self, block: bytes) -> bytes:
        if self.done or self.failed:
            return b""
        if not self.committed:
            return self._hold(block)
        # Inside a JSON string the quotes would be escaped, so generated text does not match the first two. Not `any`:
        # a generator costs more than all three searches.
        if b'"prompt_tokens"' in block or b'"error"' in block or b"[DONE]" in block:
            return self._watch(block)
        events = max(1, block.count(b"\n\n"))
        self._count(events, max(0, len(block) - events * self._envelope_bytes))
        self._finished = self._finished or _FINISH_REASON.search(block) is not None
        return block

    def _hold(self, block: bytes) -> bytes:
        """Read event by event until one commits the stream; release everything from the first event on."""
        events = split_events(block)
        for index, event in enumerate(events):
            facts = parse_event(event)
            if facts.failed:
                self.failed = True
                return b""
            self.usage = facts.usage or self.usage
            if facts.has_content or facts.finished or facts.done:
                self.committed = True
                self.done = facts.done
                self._finished = facts.finished
                self._envelope_bytes = len(event) - facts.content_bytes
                held = b"".join((*self._held, event))
                self._held.clear()
                self._held_bytes = 0
                self._count(int(facts.has_content), facts.content_bytes)
                return held + self._pass(b"".join(events[index + 1 :]))
            if not (facts.usage_only and self._hide_usage):
                self._held.append(event)
                self._held_bytes += len(event)
        return b""

    def _watch(self, block: bytes) -> bytes:
        """Read the events of a block that may hold usage, an error or the end; drop what must not pass."""
        released: list[bytes] = []
        for event in split_events(block):
            try:
                facts = parse_event(event)
            except InvalidAnswerError:
                facts = AnswerFacts()
            self.usage = facts.usage or self.usage
            self._finished = self._finished or facts.finished
            self._count(int(facts.has_content), facts.content_bytes)
            if not (facts.usage_only and self._hide_usage):
                released.append(event)
            if facts.failed or facts.done:
                self.failed, self.done = facts.failed, facts.done
                break
        return b"".join(released)

    def _count(self, events: int, content_bytes: int) -> None:
        self._events += events
        self._content_bytes += content_bytes


def _is_readable(event: bytes) -> bool:
    try:
        parse_event(event)
    except InvalidAnswerError:
        return False
    return True
