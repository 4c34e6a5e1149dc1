"""What the client of one request is sent: a path's answer or failure, or an error of the router's own.

Bytes of a committed stream are passed through untouched; the only thing ever added to one is the error event when the
path breaks off. What was sent is noted for the record.
"""

import asyncio

import aiohttp

from hybridroute_api.vocabulary import ErrorCode, Header, InternalHeader, Outcome, PathName
from hybridroute_serve.costs.pricing import format_usd, price_busy_seconds
from hybridroute_serve.router.audit import DrawnRequest
from hybridroute_serve.router.parts import RouterParts
from hybridroute_serve.router.path_client import PathAnswer, PathFailure
from hybridroute_serve.router.patience import Patience
from hybridroute_serve.router.progress import Progress
from hybridroute_serve.routing.cascade import describe_check
from hybridroute_serve.wire.asgi import Send, send_answer, send_chunk, send_error, send_start
from hybridroute_serve.wire.errors import (
    ErrorAnswer,
    deadline_event,
    path_timeout,
    path_unavailable,
    read_error_code,
    stream_cut_event,
)
from hybridroute_serve.wire.headers import headers_for_client

__all__ = ["Reply"]

_TAIL_BYTES = 64
_DONE = b"[DONE]"
_RATE_LIMIT_PREFIX = b"x-ratelimit-"
_REQUEST_ID = b"x-request-id"
"""Where OpenAI's clients look for it."""
_KEPT_FROM_A_FAILURE = frozenset({Header.RETRY_BUDGET.encode(), Header.RESETS_AT.encode()})


class Reply:
    """One request's; something is sent once."""

    def __init__(self, parts: RouterParts, so_far: Progress, send: Send, *, name: bytes) -> None:
        """`name`: the answer's `x-request-id`."""
        self._parts = parts
        self._name = name
        self._so_far = so_far
        self._send = send
        self.started = parts.monotonic_clock()
        self.kept_headers: dict[bytes, bytes] = {}
        """What the client is told of a failure although another path answers in the end, by lower-case name."""
        self.patience: Patience | None = None
        """The caller's own deadline; None when it named none."""
        self.drawn: DrawnRequest | None = None
        """Set when the answer is to be compared with the other path's."""
        self.slm_seconds: float | None = None
        """What the SLM was given for an answer that the cascade did not pass."""

    def elapsed(self) -> float:
        """Seconds since the request came."""
        return self._parts.monotonic_clock() - self.started

    def seconds_left(self) -> float | None:
        """Return what is left of the caller's own deadline; None when it named none."""
        if self.patience is None:
            return None
        return self.patience.seconds_left(self._parts.monotonic_clock())

    def keep_headers(self, failure: PathFailure) -> None:
        """Keep what the client is told of a failure, whoever answers."""
        for name, value in failure.headers:
            if name.lower() in _KEPT_FROM_A_FAILURE:
                self.kept_headers[name.lower()] = value

    async def pass_answer(self, answer: PathAnswer, path: PathName) -> None:
        """Send a path's answer."""
        so_far = self._so_far
        so_far.first_byte_seconds = self.elapsed()
        so_far.answered_by = path
        so_far.outcome = Outcome.OK
        so_far.status = answer.status
        key = so_far.parsed.next_conversation_key if so_far.parsed else None
        if key is not None:
            self._parts.conversations.remember_path(key, path)
        if self.drawn is not None:
            self.drawn.begin(answer.headers)
        if answer.response is None:
            self._keep(answer.body or b"")
            cost = self._cost_header(answer, path)
            await send_answer(
                self._send, answer.status, answer.body or b"", [*self._headers(answer.headers), *cost]
            )
        else:
            await self._stream(answer, answer.response)

    async def _stream(self, answer: PathAnswer, response: aiohttp.ClientResponse) -> None:
        await send_start(self._send, answer.status, self._headers(answer.headers))
        tail, ended = b"", False
        try:
            async with asyncio.timeout(self.seconds_left()):
                while not ended and (chunk := await response.content.readany()):
                    tail = chunk if len(chunk) >= _TAIL_BYTES else (tail + chunk)[-_TAIL_BYTES:]
                    self._keep(chunk)
                    # What arrived with the end leaves with it.
                    ended = response.content.at_eof()
                    # As `send_chunk` does, without a coroutine more a chunk.
                    await self._send({"type": "http.response.body", "body": chunk, "more_body": not ended})
        except (aiohttp.ClientError, TimeoutError):
            late = self.seconds_left() == 0.0
            self._cut(ErrorCode.TIMEOUT if late else ErrorCode.STREAM_CUT)
            event = deadline_event() if late else stream_cut_event()
            # The blank line ends whatever event was cut in its middle.
            await send_chunk(self._send, b"\n\n" + event, more=False)
            return
        if _DONE not in tail[-_TAIL_BYTES:]:
            self._cut(ErrorCode.STREAM_CUT)
        if not ended:
            await send_chunk(self._send, b"", more=False)

    def _keep(self, piece: bytes) -> None:
        if self.drawn is not None:
            self.drawn.keep(piece)

    def _cut(self, code: ErrorCode) -> None:
        self._so_far.outcome = Outcome.CUT
        self._so_far.error_code = code

    async def pass_failure(self, failure: PathFailure, path: PathName) -> None:
        """Pass on the path's own error, or make one for an ingress that answered in its place."""
        self._so_far.outcome = failure.outcome
        self._so_far.answered_by = path
        if failure.body is None:
            if failure.outcome is Outcome.TIMEOUT:
                # What was sent may still be worked on, and billed.
                self.kept_headers[b"x-should-retry"] = b"false"
                await self.refuse(path_timeout(failure.detail), failure.outcome)
            else:
                await self.refuse(path_unavailable(failure.detail), failure.outcome)
            return
        self._so_far.status = failure.status
        self._so_far.error_code = read_error_code(failure.body)
        await send_answer(self._send, failure.status, failure.body, self._headers(failure.headers))

    async def refuse(self, error: ErrorAnswer, outcome: Outcome) -> None:
        """Send an error of our own."""
        self._so_far.status = error.status
        self._so_far.outcome = outcome
        self._so_far.error_code = error.code
        await send_error(self._send, error, self._headers(()))

    def _headers(self, from_path: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        limits = self._parts.admission.headers(self._so_far.client)
        headers = [
            (name, value)
            for name, value in headers_for_client(from_path)
            # A provider's limits are ours with it, and say nothing to a client that has its own.
            if name != b"content-length" and not (limits and name.startswith(_RATE_LIMIT_PREFIX))
        ]
        named = {name for name, _ in headers}
        headers += [*limits, *(kept for kept in self.kept_headers.items() if kept[0] not in named)]
        headers.append((Header.REQUEST_ID.encode(), self._so_far.request_id.encode()))
        headers.append((_REQUEST_ID, self._name))
        decision = self._so_far.decision
        if decision is not None:
            if decision.path is not None:
                headers.append((Header.PATH.encode(), decision.path.encode()))
            headers.append((Header.GATE.encode(), decision.gate.encode()))
            if decision.confidence is not None:
                headers.append((Header.CONFIDENCE.encode(), f"{decision.confidence:.6f}".encode()))
        if self._so_far.cascade is not None:
            headers.append((Header.CASCADE.encode(), describe_check(self._so_far.cascade).encode()))
        return headers

    def _cost_header(self, answer: PathAnswer, path: PathName) -> list[tuple[bytes, bytes]]:
        policy = self._so_far.policy
        assert policy is not None  # noqa: S101 - set before any answer
        on_slm = self.slm_seconds
        if on_slm is None:
            on_slm = self.elapsed() if path is PathName.SLM else 0.0
        nano_usd = price_busy_seconds(on_slm, policy.slm.machine_hour_nano_usd)
        if path is PathName.LLM:
            wanted = InternalHeader.COST_NANO_USD.encode()
            said = next((value for name, value in answer.headers if name.lower() == wanted), b"")
            if not said.isdigit():
                return []
            nano_usd += int(said)
        return [(Header.COST_USD.encode(), format_usd(nano_usd).encode())]
