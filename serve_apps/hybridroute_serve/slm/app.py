"""The SLM application: admits requests, has the engine answer them, and reports one attempt for each.

A raw ASGI application on the engine's server, with which it shares its address: what is no completion is answered by
the engine itself, where that is an application. What an attempt does is the relay's. Refusals carry their outcome for
the router, which then tries the LLM: a full replica as throttled, a request that the engine cannot serve by its error
code.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from hybridroute_api.serving import SlmArgs, UpstreamTimeouts
from hybridroute_api.vocabulary import Api, ErrorCode, InternalHeader, Outcome, PathName
from hybridroute_serve.engines.engine import Engine, EngineDescription
from hybridroute_serve.slm.admission import Admission, OverloadedError
from hybridroute_serve.slm.busy import BusyShare
from hybridroute_serve.slm.cascade import HeldSender, MarginTally, TrialJournal
from hybridroute_serve.slm.passing import StreamSender, TallyingJournal, UnarySender
from hybridroute_serve.slm.usage import UsageTally
from hybridroute_serve.upstream.door import PathDoor, read_relay_request, refuse
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.upstream.relay import AttemptJournal, Relay, RelayRequest
from hybridroute_serve.upstream.target import AttemptTarget
from hybridroute_serve.upstream.transport import AttemptTransport
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send, send_answer
from hybridroute_serve.wire.errors import ErrorAnswer, slm_overloaded
from hybridroute_serve.wire.logprobs import ask_for_alternatives
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["SlmParts", "build_slm_app"]

_BODY_LIMIT_BYTES = 64 * 1024 * 1024
"""Only the router speaks to this application, and its own limit is lower."""
_CONNECT_SECONDS = 5.0
"""To loopback, on a machine whose cores are all busy."""
_SHORTEST_WAIT_SECONDS = 0.1
"""What is left for the first content after all the waiting for a place."""


@dataclass(frozen=True, slots=True)
class SlmParts:
    """What the composition root hands in."""

    token: str
    """The internal token."""
    engine: Engine
    transport: AttemptTransport
    """The way to the engine."""
    journal: AttemptJournal
    busy: BusyShare
    admission: Admission
    wall_clock: Callable[[], float]
    monotonic_clock: Callable[[], float]
    start: Callable[[], Awaitable[None]]
    """Run at the application's start, before the first request; the engine is ready when it returns."""
    stop: Callable[[], Awaitable[None]]


def build_slm_app(args: SlmArgs, parts: SlmParts) -> ASGIApp:
    """Make the ASGI application."""
    return PathDoor(
        parts.token,
        _Slm(args, parts).complete,
        start=parts.start,
        stop=parts.stop,
        beside=lambda: parts.engine.app,
    )


class _Slm:
    def __init__(self, args: SlmArgs, parts: SlmParts) -> None:
        self._args = args
        self._parts = parts

    async def complete(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one completion, or refuse it in OpenAI's shape."""
        try:
            async with self._parts.admission.admit():
                request = await read_relay_request(path, scope, receive, _BODY_LIMIT_BYTES)
                unable = _explain_inability(request.parsed, self._parts.engine.describe())
                if unable is not None:
                    await refuse(send, unable, Outcome.CLIENT_ERROR)
                    return
                await self._serve(self._take(request, send))
        except OverloadedError:
            await refuse(send, slm_overloaded(), Outcome.THROTTLED)

    def _take(self, request: RelayRequest, send: Send) -> "_Task":
        """Return what is to be done. For a cascade the answer is held until its margin is known."""
        number = int(request.internal.get(InternalHeader.ATTEMPT, 1))
        tokens = request.internal.get(InternalHeader.CASCADE_TOKENS)
        if tokens is None:
            return _Task(request, send, number, self._parts.journal)
        # Logprobs that the client asked for itself are passed as they come.
        stream, hide = request.parsed.stream, not request.parsed.logprobs
        bare = self._parts.engine.dialect.bare_logprobs
        sender = HeldSender(send, MarginTally(int(tokens)), stream=stream, hide=hide, bare=bare)
        if hide:
            request = replace(request, body=ask_for_alternatives(request.body))
        return _Task(request, sender, number, TrialJournal(self._parts.journal))

    async def _serve(self, task: "_Task") -> None:
        """Wait for a place in the engine and make the attempt. What the wait took is gone from the deadlines."""
        clock = self._parts.monotonic_clock
        came_at = clock()
        async with self._parts.admission.take_place(self._args.first_byte_seconds):
            waited_seconds = clock() - came_at
            ticket = self._parts.busy.enter(clock())
            share = _Share(lambda: self._parts.busy.leave(ticket, clock()))
            try:
                failure = await self._attempt(task, waited_seconds, share)
            finally:
                share.settle()
        if failure is not None:
            await self._send_failure(task.send, failure)

    async def _attempt(self, task: "_Task", waited_seconds: float, share: "_Share") -> AttemptFailure | None:
        request, send, number = task.request, task.send, task.number
        if not self._parts.engine.dialect.streams_always:
            relay = self._relay(task.journal)
            target = self._target(request, waited_seconds)
            return await relay.attempt(
                request, target, send, number=number, observe_busy_seconds=share.settle
            )
        parsed, dialect = request.parsed, self._parts.engine.dialect
        tally = UsageTally(parsed.api, emit=parsed.include_usage)
        sender = (
            StreamSender(send, dialect, tally)
            if parsed.stream
            else UnarySender(send, dialect, tally, parsed.api)
        )
        relay = self._relay(TallyingJournal(task.journal, tally))
        # The body asks for a stream with usage already; the tally decides what the client sees of it.
        asked = replace(
            request,
            body=dialect.prepare_body(request.body, parsed.api),
            parsed=replace(parsed, stream=True, include_usage=True),
        )
        target = self._target(request, waited_seconds)
        failure = await relay.attempt(asked, target, sender, number=number, observe_busy_seconds=share.settle)
        if failure is None:
            await sender.finish()
        return failure

    def _relay(self, journal: AttemptJournal) -> Relay:
        parts = self._parts
        return Relay(
            parts.transport,
            journal,
            route=self._args.route,
            wall_clock=parts.wall_clock,
            monotonic_clock=parts.monotonic_clock,
        )

    def _target(self, request: RelayRequest, waited_seconds: float) -> AttemptTarget:
        engine, asked = self._parts.engine, request.parsed.model
        return AttemptTarget(
            path=PathName.SLM,
            name=PathName.SLM,
            base_url=engine.base_url + "/v1",
            # An adapter is asked for by its name; every other name means the model itself.
            model=asked if asked in engine.describe().adapters else self._args.model_name,
            timeouts=UpstreamTimeouts(
                connect_seconds=_CONNECT_SECONDS,
                first_byte_seconds=max(
                    _SHORTEST_WAIT_SECONDS, self._args.first_byte_seconds - waited_seconds
                ),
                total_seconds=max(_SHORTEST_WAIT_SECONDS, self._args.total_seconds - waited_seconds),
            ),
            headers=engine.headers,
        )

    async def _send_failure(self, send: Send, failure: AttemptFailure) -> None:
        refused = None
        said = failure.upstream_body or failure.fault_body
        if failure.upstream_status is not None and said is not None:
            refused = self._parts.engine.dialect.explain_refusal(failure.upstream_status, said)
        if refused is None:
            await send_answer(send, failure.answer.status, failure.answer.body(), failure.headers())
        else:
            await refuse(send, refused, Outcome.CLIENT_ERROR)


@dataclass(frozen=True, slots=True)
class _Task:
    """One request that is to be answered."""

    request: RelayRequest
    send: Send
    number: int
    """Of the attempt, among those of this request on this path."""
    journal: AttemptJournal


class _Share:
    """A request's share of the busy time, taken once."""

    def __init__(self, leave: Callable[[], float]) -> None:
        self._leave = leave
        self._seconds: float | None = None

    def settle(self) -> float:
        """End the request's share, the first time; return it in seconds."""
        if self._seconds is None:
            self._seconds = self._leave()
        return self._seconds


def _explain_inability(parsed: ParsedRequest, engine: EngineDescription) -> ErrorAnswer | None:
    """Say what the engine would ignore or answer as a failure of its own; None when it can serve the request."""
    if parsed.non_text_parts:
        return _unable("messages", "The small model reads text only.")
    if parsed.audio_answer:
        return _unable("modalities", "The small model answers in text only.")
    if parsed.web_search:
        return _unable("web_search_options", "The small model does not search the web.")
    for option in sorted(parsed.completion_options - engine.completion_options):
        return _unable(option, f"The small model's engine does not serve '{option}' in completions.")
    formatted = parsed.api is Api.COMPLETIONS and parsed.response_format not in (None, "text")
    if formatted and not engine.completion_formats:
        return _unable(
            "response_format", "The small model's engine ignores 'response_format' in completions."
        )
    if parsed.offers_tools and not engine.tools:
        return _unable("tools", "The small model's chat template knows no tools.")
    if engine.most_choices is not None and parsed.choices > engine.most_choices:
        return _unable("n", f"The small model gives at most {engine.most_choices} choices at once.")
    return None


def _unable(param: str, message: str) -> ErrorAnswer:
    return ErrorAnswer(400, "invalid_request_error", ErrorCode.NOT_SERVED_BY_SLM, message, param)
