"""One attempt at one upstream, from its journal line to its report: the state that `relay.Relay` runs.

Before the commit a failure is returned and nothing has reached the client; after it, a break ends the stream with an
error event.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import aiohttp
import msgspec

from hybridroute_api.records import AttemptReport, OpenAttempt, TokenUsage
from hybridroute_api.vocabulary import ErrorCode, InternalHeader, Outcome, PathName, UsageSource
from hybridroute_serve.costs.pricing import price_usage
from hybridroute_serve.upstream.bodies import ANSWER_LIMIT_BYTES, drain, read_answer, read_refusal
from hybridroute_serve.upstream.books import NOTHING_STAKED, AttemptBooks, AttemptEnd, AttemptJournal, Stake
from hybridroute_serve.upstream.credentials import CredentialError
from hybridroute_serve.upstream.failures import AttemptFailure, classify_status, transport_failure
from hybridroute_serve.upstream.target import AttemptTarget
from hybridroute_serve.upstream.transport import AttemptTransport, Response
from hybridroute_serve.wire.answers import InvalidAnswerError, is_json_object, parse_answer
from hybridroute_serve.wire.asgi import Send, send_answer, send_chunk, send_start
from hybridroute_serve.wire.edits import edit_body
from hybridroute_serve.wire.errors import error_event, stream_cut_event
from hybridroute_serve.wire.headers import headers_from_provider
from hybridroute_serve.wire.requests import ParsedRequest
from hybridroute_serve.wire.streams import StreamFilter

__all__ = [
    "Attempt",
    "AttemptBooks",
    "AttemptEnd",
    "AttemptJournal",
    "RelayParts",
    "RelayRequest",
    "attempt_id",
]

_log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 1.0
"""How long a client that does not read may keep the event that ends its broken stream."""

_DONE_EVENT = b"data: [DONE]\n\n"
_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
]


def attempt_id(request_id: str, path: PathName, number: int) -> str:
    """Name attempt `number` of a request on a path."""
    return f"{request_id}/{path}/{number}"


class RelayRequest(msgspec.Struct, frozen=True):
    """What is sent, whoever it is sent to."""

    request_id: str
    gate: str
    operation: str
    """Below the upstream's base URL, such as `/chat/completions`."""
    parsed: ParsedRequest
    body: bytes
    headers: list[tuple[bytes, bytes]]
    """Those that may go to the upstream."""
    internal: Mapping[str, str]
    """What the router says of it, by `InternalHeader`'s names."""


@dataclass(frozen=True, slots=True)
class RelayParts:
    """What all attempts of a replica share."""

    client: AttemptTransport
    journal: AttemptJournal
    route: str
    wall_clock: Callable[[], float]
    monotonic_clock: Callable[[], float]


class Attempt:
    """One attempt; run it once."""

    def __init__(
        self,
        parts: RelayParts,
        request: RelayRequest,
        target: AttemptTarget,
        send: Send,
        *,
        number: int,
        seconds: float | None,
        observe_busy_seconds: Callable[[], float] | None,
        books: AttemptBooks | None,
    ) -> None:
        self._parts = parts
        self._request = request
        self._target = target
        total_seconds = target.timeouts.total_seconds
        self._total_seconds = total_seconds if seconds is None else min(seconds, total_seconds)
        self._send = send
        self._observe_busy_seconds = observe_busy_seconds
        self._books = books
        self._attempt_id = attempt_id(request.request_id, target.path, number)
        self._started_at = parts.wall_clock()
        self._started = parts.monotonic_clock()
        self._outcome = Outcome.UPSTREAM_ERROR
        self._status: int | None = None
        self._sent = False
        self._client_blocked = False
        self._first_byte_seconds: float | None = None
        self._usage: TokenUsage | None = None
        self._stream: StreamFilter | None = None
        self._response: Response | None = None
        self._deadline = asyncio.timeout(None)
        self._ends_at = 0.0

    async def run(self) -> AttemptFailure | None:
        """Make the attempt. None: an answer has been sent, whole or cut short."""
        self._parts.journal.open_attempt(self._open(self._books.open() if self._books else NOTHING_STAKED))
        failure = None
        try:
            failure = await self._exchange()
        except asyncio.CancelledError:
            self._outcome = Outcome.CANCELLED
            raise
        finally:
            if not self._worth_draining():
                self._hang_up()
            self._close(failure)
        await self._let_go()
        if failure is not None:
            self._log_failure(failure.detail)
        return failure

    def _hang_up(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    async def _let_go(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await drain(response)

    def _close(self, failure: AttemptFailure | None) -> None:
        usage = self._final_usage()
        cost_nano_usd, total_seconds = self._price(usage), self._elapsed()
        settled = NOTHING_STAKED
        if self._books is not None:
            settled = self._books.close(
                AttemptEnd(
                    outcome=self._outcome,
                    status=self._status,
                    usage=usage,
                    cost_nano_usd=cost_nano_usd,
                    total_seconds=total_seconds,
                    streamed=self._request.parsed.stream,
                    content_sent=self._first_byte_seconds is not None,
                    failure=failure,
                    request_sent=self._sent,
                    client_blocked=self._client_blocked,
                )
            )
        self._parts.journal.close_attempt(self._report(usage, cost_nano_usd, total_seconds, settled))

    async def _exchange(self) -> AttemptFailure | None:
        """Send, and pass the answer on; turn whatever goes wrong into a failure or, after the commit, a cut."""
        try:
            async with self._deadline:
                self._ends_at = asyncio.get_running_loop().time() + self._total_seconds
                self._deadline.reschedule(self._ends_at)
                response = await self._send_request()
                if not 200 <= response.status < 300:
                    return await self._refused(response)
                if self._request.parsed.stream:
                    await self._pass_stream(response)
                else:
                    await self._pass_answer(response)
                return None
        except aiohttp.ConnectionTimeoutError:
            return await self._fail(Outcome.TIMEOUT, "no connection in time")
        except TimeoutError:
            return await self._fail(Outcome.TIMEOUT, "deadline passed")
        except CredentialError as error:
            return await self._fail(Outcome.UPSTREAM_ERROR, str(error), may_pass=False)
        except InvalidAnswerError as error:
            return await self._fail(Outcome.UPSTREAM_ERROR, str(error))
        except (aiohttp.ClientError, OSError) as error:
            return await self._fail(Outcome.UPSTREAM_ERROR, type(error).__name__)

    async def _send_request(self) -> Response:
        parsed, target = self._request.parsed, self._target
        body = edit_body(
            self._request.body,
            model=target.model,
            inject_usage=parsed.stream and not parsed.include_usage,
            cap_output=target.output_cap,
        )
        self._response = await self._parts.client.send(
            target, self._request.operation, body, self._request.headers, on_sent=self._note_sent
        )
        self._status = self._response.status
        return self._response

    def _note_sent(self) -> None:
        """Start the wait for the first content; a unary answer has only the total deadline."""
        self._sent = True
        if self._request.parsed.stream:
            first_byte_at = asyncio.get_running_loop().time() + self._target.timeouts.first_byte_seconds
            self._deadline.reschedule(min(self._ends_at, first_byte_at))

    async def _refused(self, response: Response) -> AttemptFailure:
        mask = partial(self._parts.client.mask_credential, self._target)
        body = mask(await read_refusal(response))
        failure = classify_status(
            response.status,
            tuple((name, mask(value)) for name, value in response.raw_headers),
            body,
            is_json_object=is_json_object(body),
            name=self._target.name,
            now_unix=self._parts.wall_clock(),
        )
        self._outcome = failure.outcome
        return failure

    async def _pass_answer(self, response: Response) -> None:
        body = await read_answer(response)
        facts = parse_answer(body)
        if facts.failed:
            raise InvalidAnswerError("answer was an error in a 200")
        self._usage = facts.usage or TokenUsage(
            prompt_tokens=self._request.parsed.estimated_prompt_tokens,
            completion_tokens=facts.content_tokens,
            source=UsageSource.ESTIMATED,
        )
        self._see_content()
        self._outcome = Outcome.OK
        headers = [
            *headers_from_provider(response.raw_headers),
            (InternalHeader.UPSTREAM.encode(), self._target.name.encode()),
            (InternalHeader.COST_NANO_USD.encode(), str(self._price(self._usage)).encode()),
        ]
        self._client_blocked = True
        await send_answer(self._send, response.status, body, headers)
        self._client_blocked = False

    async def _pass_stream(self, response: Response) -> None:
        stream = self._stream = StreamFilter(
            hide_usage=not self._request.parsed.include_usage, max_held_bytes=ANSWER_LIMIT_BYTES
        )
        while not (stream.done or stream.failed):
            chunk = await response.content.readany()
            released = stream.feed(chunk) if chunk else stream.end()
            if stream.failed:
                released = self._parts.client.mask_credential(self._target, released)
            if released:
                if self._first_byte_seconds is None:
                    await self._commit(response)
                await self._pass_on(released, more=not stream.done)
            if not chunk:
                break
        if not stream.committed:
            raise InvalidAnswerError("stream ended, or sent an error, before any content")
        if stream.failed:
            # The upstream's own error event has been passed on and says why.
            self._outcome = Outcome.CUT
            self._log_failure("error event in the stream")
            await self._pass_on(b"", more=False)
        elif not stream.complete:
            raise InvalidAnswerError("stream ended early")
        else:
            self._outcome = Outcome.OK
            if not stream.done:
                await self._pass_on(_DONE_EVENT, more=False)

    async def _pass_on(self, chunk: bytes, *, more: bool = True) -> None:
        self._client_blocked = True
        # As `send_chunk` does, without a coroutine more a chunk.
        await self._send({"type": "http.response.body", "body": chunk, "more_body": more})
        self._client_blocked = False

    def _see_content(self) -> None:
        self._first_byte_seconds = self._elapsed()
        if self._books is not None:
            self._books.saw_content()

    async def _commit(self, response: Response) -> None:
        self._see_content()
        self._deadline.reschedule(self._ends_at)
        passed = [pair for pair in headers_from_provider(response.raw_headers) if pair[0] != b"content-type"]
        named = (InternalHeader.UPSTREAM.encode(), self._target.name.encode())
        self._client_blocked = True
        await send_start(self._send, 200, [*_STREAM_HEADERS, *passed, named])
        self._client_blocked = False

    async def _fail(self, outcome: Outcome, detail: str, *, may_pass: bool = True) -> AttemptFailure | None:
        if self._first_byte_seconds is None:
            self._outcome = outcome
            return transport_failure(outcome, detail, name=self._target.name, may_pass=may_pass)
        if self._stream is None:
            # A whole answer is being sent: only the client can be slow now, and there is nothing to add.
            self._outcome = Outcome.CUT
            return None
        self._outcome = Outcome.CUT
        self._log_failure(detail)
        if outcome is Outcome.TIMEOUT:
            event = error_event("The answer took longer than the upstream is given.", ErrorCode.TIMEOUT)
        else:
            event = stream_cut_event()
        try:
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await send_chunk(self._send, event, more=False)
        except TimeoutError:
            pass  # the client does not read
        return None

    def _worth_draining(self) -> bool:
        return self._stream is not None and self._stream.done and self._outcome is Outcome.OK

    def _elapsed(self) -> float:
        return self._parts.monotonic_clock() - self._started

    def _price(self, usage: TokenUsage) -> int:
        prices = self._target.prices
        return 0 if prices is None else price_usage(usage, prices)

    def _final_usage(self) -> TokenUsage:
        """Return the counts that the upstream reported, else an estimate of what it has done and may charge."""
        if self._usage is not None:
            return self._usage
        stream = self._stream
        if stream is not None and stream.usage is not None:
            return stream.usage
        prompt_tokens = self._request.parsed.estimated_prompt_tokens
        if stream is not None and stream.committed:
            completion_tokens = stream.estimate_completion_tokens()
            return TokenUsage(prompt_tokens, completion_tokens, source=UsageSource.ESTIMATED)
        if self._sent and self._outcome in (Outcome.TIMEOUT, Outcome.CANCELLED):
            return TokenUsage(prompt_tokens, source=UsageSource.ESTIMATED)
        return TokenUsage()

    def _open(self, reserved: Stake) -> OpenAttempt:
        return OpenAttempt(
            attempt_id=self._attempt_id,
            request_id=self._request.request_id,
            route=self._parts.route,
            path=self._target.path,
            upstream=self._target.name,
            model=self._target.model,
            gate=self._request.gate,
            started_at=self._started_at,
            estimated_prompt_tokens=self._request.parsed.estimated_prompt_tokens,
            streamed=self._request.parsed.stream,
            reserved_nano_usd=reserved.nano_usd,
            lease_ids=reserved.lease_ids,
        )

    def _report(
        self, usage: TokenUsage, cost_nano_usd: int, total_seconds: float, settled: Stake
    ) -> AttemptReport:
        return AttemptReport(
            attempt_id=self._attempt_id,
            request_id=self._request.request_id,
            route=self._parts.route,
            path=self._target.path,
            upstream=self._target.name,
            model=self._target.model,
            gate=self._request.gate,
            started_at=self._started_at,
            total_seconds=total_seconds,
            outcome=self._outcome,
            usage=usage,
            streamed=self._request.parsed.stream,
            status=self._status,
            first_byte_seconds=self._first_byte_seconds,
            busy_seconds=self._observe_busy_seconds() if self._observe_busy_seconds else 0.0,
            cost_nano_usd=cost_nano_usd,
            settled_nano_usd=settled.nano_usd,
            lease_ids=settled.lease_ids,
        )

    def _log_failure(self, detail: str) -> None:
        _log.info(
            "attempt failed attempt_id=%s upstream=%s outcome=%s detail=%s",
            self._attempt_id,
            self._target.name,
            self._outcome,
            detail,
        )
