"""What stands between the relay and the client: two ways to pass an engine's stream on.

Both are given to the relay as its `send`, and see whole events only.
"""

from collections.abc import MutableMapping
from typing import Any

from msgspec.structs import replace

from hybridroute_api.records import AttemptReport, OpenAttempt
from hybridroute_api.vocabulary import Api, ErrorCode, InternalHeader, Outcome, UsageSource
from hybridroute_serve.engines.engine import Dialect
from hybridroute_serve.slm.assembly import AnswerAssembler
from hybridroute_serve.slm.usage import UsageTally
from hybridroute_serve.upstream.relay import AttemptJournal
from hybridroute_serve.wire.answers import InvalidAnswerError
from hybridroute_serve.wire.asgi import Send, send_answer, send_error
from hybridroute_serve.wire.errors import ErrorAnswer, path_timeout, path_unavailable

__all__ = ["StreamSender", "TallyingJournal", "UnarySender"]

_Message = MutableMapping[str, Any]


class StreamSender:
    """Sends a stream to its client, cleaned of what the engine adds."""

    def __init__(self, send: Send, dialect: Dialect, tally: UsageTally) -> None:
        self._send = send
        self._dialect = dialect
        self._tally = tally

    async def __call__(self, message: _Message) -> None:
        """Pass a message on, unless nothing is left of it."""
        if message["type"] == "http.response.body" and message["body"]:
            body = self._tally.pass_events(self._dialect.clean_events(message["body"]))
            if not body and message["more_body"]:
                return
            message = {**message, "body": body}
        await self._send(message)

    async def finish(self) -> None:
        """Everything has been sent."""


class UnarySender:
    """Collects a stream and sends it as one answer, once it is whole.

    Nothing reaches the client before that, so a stream that breaks off is still a failure that the router can make
    good elsewhere.
    """

    def __init__(self, send: Send, dialect: Dialect, tally: UsageTally, api: Api) -> None:
        self._send = send
        self._dialect = dialect
        self._tally = tally
        self._assembler = AnswerAssembler(api)
        self._upstream_headers: list[tuple[bytes, bytes]] = []
        self._is_readable = True

    async def __call__(self, message: _Message) -> None:
        """Keep what the relay sends."""
        if message["type"] == "http.response.start":
            named = InternalHeader.UPSTREAM.encode()
            self._upstream_headers = [header for header in message["headers"] if header[0] == named]
            return
        try:
            self._assembler.feed(self._tally.pass_events(self._dialect.clean_events(message["body"])))
        except InvalidAnswerError:
            self._is_readable = False

    async def finish(self) -> None:
        """Send the answer, or the failure that broke it off."""
        error = self._assembler.error
        if error is None and self._is_readable:
            answer = self._assembler.assemble(self._tally.total)
            await send_answer(self._send, 200, answer, self._upstream_headers)
        elif error is not None and error.get("code") == ErrorCode.TIMEOUT:
            await self._fail(path_timeout("The small model gave no whole answer in time."), Outcome.TIMEOUT)
        else:
            await self._fail(path_unavailable("The small model broke off."), Outcome.UPSTREAM_ERROR)

    async def _fail(self, answer: ErrorAnswer, outcome: Outcome) -> None:
        await send_error(self._send, answer, [(InternalHeader.FAILURE.encode(), outcome.encode())])


class TallyingJournal:
    """Puts the usage of all choices into the report of an attempt that had more than one."""

    def __init__(self, journal: AttemptJournal, tally: UsageTally) -> None:
        self._journal = journal
        self._tally = tally

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Note an attempt before it is sent."""
        self._journal.open_attempt(attempt)

    def close_attempt(self, report: AttemptReport) -> None:
        """Note how it ended; the relay knows the last choice's usage alone."""
        counted = self._tally.total
        if counted is not None and report.usage.source is UsageSource.REPORTED:
            report = replace(report, usage=counted)
        self._journal.close_attempt(report)
