"""Holds the beginning of an answer until it is known how sure the model was of it, and says so in a header.

It stands between the relay and the router. The router decides by the header, before a byte has gone to the client:
it passes the answer on, or closes the connection, which cancels the engine's work. What comes later is passed at once;
logprobs that the client did not ask for are taken out of all of it. Not here: thresholds and shares.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from hybridroute_api.records import AttemptReport, OpenAttempt
from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome
from hybridroute_serve.upstream.relay import AttemptJournal
from hybridroute_serve.wire.answers import AnswerFacts, InvalidAnswerError, parse_event
from hybridroute_serve.wire.asgi import Send, send_error
from hybridroute_serve.wire.errors import path_timeout, path_unavailable, read_error_code
from hybridroute_serve.wire.logprobs import NULL, take_margins
from hybridroute_serve.wire.sse import event_data, split_events

__all__ = ["HeldSender", "MarginTally", "TrialJournal"]

_Message = MutableMapping[str, Any]


@dataclass(slots=True)
class MarginTally:
    """The margin of an answer's first tokens."""

    wanted: int
    """Tokens that it is taken of."""
    margins: list[float] = field(default_factory=list)
    tokens: int = 0
    """Tokens that the engine told of."""
    untold: int = 0
    """Events with content that it told nothing of."""

    def add(self, margins: tuple[float, ...], tokens: int, *, has_content: bool) -> None:
        """Count one event or answer."""
        self.margins.extend(margins)
        self.tokens += tokens
        if has_content and not tokens:
            self.untold += 1

    @property
    def is_full(self) -> bool:
        """Whether as many tokens have come as are looked at, told of or not."""
        return self.tokens + self.untold >= self.wanted

    def say(self) -> str:
        """Return the header: `<margin> <tokens>`, or why there is no margin."""
        looked_at = self.margins[: self.wanted]
        if looked_at:
            return f"{sum(looked_at) / len(looked_at):.6f} {len(looked_at)}"
        return "fewer than two alternatives" if self.tokens else "no logprobs"


class HeldSender:
    """Sends one answer. Give it to whoever would have been given `send`."""

    def __init__(
        self, send: Send, tally: MarginTally, *, stream: bool, hide: bool, bare: bytes | None
    ) -> None:
        """`bare`: see `take_margins`."""
        self._send = send
        self._tally = tally
        self._stream = stream
        self._hide = hide
        self._bare = bare
        self._start: _Message | None = None
        self._held: list[bytes] = []
        self._is_released = False
        self._broken_off_by: bytes | None = None
        """The error that came while the answer was held."""

    async def __call__(self, message: _Message) -> None:
        """Hold, or pass on, what the relay sends."""
        if message["type"] == "http.response.start":
            if message["status"] >= 400:
                self._is_released = True
                self._hide = False
                await self._send(message)
                return
            self._start = message
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._is_released:
            if self._broken_off_by is not None:
                return  # the failure has been sent
            if self._hide and body:
                body = self._read(body)
            await self._send({**message, "body": body})
            return
        self._held.append(self._read(body))
        if self._tally.is_full or not more:
            await self._release(more=more)

    def _read(self, body: bytes) -> bytes:
        if self._stream:
            return b"".join(self._read_event(event) for event in split_events(body))
        found = take_margins(body, hide=self._hide, bare=NULL)
        self._tally.add(found.margins, found.tokens, has_content=True)
        return found.document

    def _read_event(self, event: bytes) -> bytes:
        data = event_data(event)
        if data is None:
            return event
        found = take_margins(data, hide=self._hide, bare=self._bare)
        if not self._is_released:
            facts = _facts(event)
            self._tally.add(found.margins, found.tokens, has_content=facts.has_content)
            if facts.failed:
                self._broken_off_by = self._broken_off_by or data
        return event if found.document is data else b"data: " + found.document + b"\n\n"

    async def _release(self, *, more: bool) -> None:
        """Send what was held. Where it broke off, nothing has been sent, and another path can still serve."""
        self._is_released = True
        if self._broken_off_by is not None:
            await self._fail(self._broken_off_by)
            return
        assert self._start is not None  # noqa: S101 - ASGI's order
        body = b"".join(self._held)
        headers = [
            *self._start["headers"],
            (InternalHeader.CASCADE_MARGIN.encode(), self._tally.say().encode()),
        ]
        if not self._stream:
            headers = [pair for pair in headers if pair[0] != b"content-length"]
            headers.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _fail(self, error: bytes) -> None:
        answer, outcome = path_unavailable("The small model broke off."), Outcome.UPSTREAM_ERROR
        if read_error_code(error) == ErrorCode.TIMEOUT:
            answer, outcome = path_timeout("The small model gave no whole answer in time."), Outcome.TIMEOUT
        await send_error(self._send, answer, [(InternalHeader.FAILURE.encode(), outcome.encode())])


class TrialJournal:
    """Marks the report of an attempt that a cascade looked at: only the router knows whether it served."""

    def __init__(self, journal: AttemptJournal) -> None:
        self._journal = journal

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Note an attempt before it is sent."""
        self._journal.open_attempt(attempt)

    def close_attempt(self, report: AttemptReport) -> None:
        """Note how it ended."""
        self._journal.close_attempt(replace(report, on_trial=True))


def _facts(event: bytes) -> AnswerFacts:
    try:
        return parse_event(event)
    except InvalidAnswerError:
        return AnswerFacts()
