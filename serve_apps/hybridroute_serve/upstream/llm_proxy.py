"""The llm-proxy: a raw ASGI application that reads a request, has it served, and answers what fails.

Which attempts a request gets is `pursuit.RequestPursuit`'s; what an attempt does is the relay's. It is handed its
policy, and has no clock and no background work of its own.
"""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Gate, InternalHeader, Outcome
from hybridroute_serve.upstream.door import PathDoor, read_relay_request, refuse
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.upstream.pursuit import CallerTerms, PursuitParts, RequestPursuit
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send, send_answer
from hybridroute_serve.wire.errors import starting

__all__ = ["LlmProxyParts", "build_llm_proxy_app"]


async def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class LlmProxyParts:
    """What the composition root hands in."""

    token: str
    """The internal token."""
    pursuit: PursuitParts
    policy: Callable[[], LivePolicy | None]
    """The policy in force; None until the first has come."""
    start: Callable[[], Awaitable[None]] = _do_nothing
    """Run at the application's start, before the first request."""
    stop: Callable[[], Awaitable[None]] = _do_nothing


def build_llm_proxy_app(parts: LlmProxyParts) -> ASGIApp:
    """Make the ASGI application."""

    async def serve(path: str, scope: Scope, receive: Receive, send: Send) -> None:
        policy = parts.policy()
        if policy is None:
            await refuse(send, starting(), Outcome.UPSTREAM_ERROR)
            return
        request = await read_relay_request(path, scope, receive, policy.max_body_bytes)
        terms = CallerTerms(
            client=request.internal.get(InternalHeader.CLIENT),
            failed_over=request.internal.get(InternalHeader.FAILED_OVER) == "1",
            patience_seconds=_read_seconds(request.internal.get(InternalHeader.DEADLINE_SECONDS)),
            audit=request.gate == Gate.AUDIT,
        )
        failure = await RequestPursuit(parts.pursuit, request, policy, terms, send).run()
        if failure is not None:
            await _send_failure(send, failure)

    return PathDoor(parts.token, serve, start=parts.start, stop=parts.stop)


def _read_seconds(text: str | None) -> float | None:
    """Read the router's own number; what is none is no deadline."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) else None


async def _send_failure(send: Send, failure: AttemptFailure) -> None:
    body = failure.answer.body() if failure.upstream_body is None else failure.upstream_body
    await send_answer(send, failure.answer.status, body, failure.headers())
