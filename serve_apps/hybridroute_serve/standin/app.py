"""The stand-in as an ASGI application: OpenAI-compatible chat, completions and models, paced like a provider.

It serves only where no provider is configured, says so in every answer, and is labelled in records as well. Tools,
sampling and response formats are ignored.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from hybridroute_api.serving import StandInArgs
from hybridroute_api.vocabulary import Api
from hybridroute_serve.standin.answers import STAND_IN_MODEL, StandInAnswer, prepare_answer
from hybridroute_serve.wire.asgi import (
    ASGIApp,
    BodyTooLargeError,
    ClientDisconnectedError,
    Receive,
    Scope,
    Send,
    read_body,
    send_answer,
    send_chunk,
    send_error,
    send_start,
    serve_lifespan,
)
from hybridroute_serve.wire.errors import (
    InvalidRequest,
    body_too_large,
    invalid_request,
    method_not_allowed,
    unsupported_endpoint,
)
from hybridroute_serve.wire.requests import ParsedRequest, parse_request

__all__ = ["build_stand_in_app"]

_APIS = {"/v1/chat/completions": Api.CHAT_COMPLETIONS, "/v1/completions": Api.COMPLETIONS}
_MODELS = "/v1/models"
_HEALTH = "/healthz"
_SUPPORTED = (*(f"POST {path}" for path in _APIS), f"GET {_MODELS}", f"GET {_HEALTH}")
_BODY_LIMIT_BYTES = 64 * 1024 * 1024
_MOST_CHOICES = 128

Sleep = Callable[[float], Awaitable[Any]]


def build_stand_in_app(
    args: StandInArgs, *, sleep: Sleep = asyncio.sleep, clock: Callable[[], float] = time.time
) -> ASGIApp:
    """Make the ASGI application."""
    return _StandIn(args, sleep, clock)


class _StandIn:
    def __init__(self, args: StandInArgs, sleep: Sleep, clock: Callable[[], float]) -> None:
        self._token_seconds = 1 / args.tokens_per_second
        self._sleep = sleep
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, start=_do_nothing, stop=_do_nothing)
        elif scope["type"] == "http":
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        allowed = "POST" if path in _APIS else "GET"
        if path not in (*_APIS, _MODELS, _HEALTH):
            await send_error(send, unsupported_endpoint(method, path, _SUPPORTED))
        elif method != allowed and not (method == "HEAD" and allowed == "GET"):
            await send_error(send, method_not_allowed(method, path, allowed))
        elif path == _HEALTH:
            await send_answer(send, 200, b'{"status":"ok"}')
        elif path == _MODELS:
            model = {"id": STAND_IN_MODEL, "object": "model", "created": 0, "owned_by": "hybridroute"}
            await send_answer(send, 200, msgspec.json.encode({"object": "list", "data": [model]}))
        else:
            await self._complete(_APIS[path], scope, receive, send)

    async def _complete(self, api: Api, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await read_body(scope, receive, _BODY_LIMIT_BYTES)
            request = parse_request(body, api)
            if request.choices > _MOST_CHOICES:
                raise InvalidRequest("n", f"Invalid 'n': at most {_MOST_CHOICES} answers.")
        except BodyTooLargeError as error:
            await send_error(send, body_too_large(error.limit_bytes))
            return
        except InvalidRequest as error:
            await send_error(send, invalid_request(error))
            return
        except ClientDisconnectedError:
            return
        answer = prepare_answer(request, body, int(self._clock()))
        if request.stream:
            await self._stream(answer, request, send)
        else:
            await self._sleep(len(answer.tokens) * self._token_seconds)
            await send_answer(send, 200, msgspec.json.encode(answer.whole()))

    async def _stream(self, answer: StandInAnswer, request: ParsedRequest, send: Send) -> None:
        await send_start(send, 200, [(b"content-type", b"text/event-stream; charset=utf-8")])
        choices = range(answer.choices)
        await _send_events(send, [answer.opening_chunk(index) for index in choices])
        for token in answer.tokens:
            await self._sleep(self._token_seconds)
            await _send_events(send, [answer.token_chunk(index, token) for index in choices])
        closing = [answer.closing_chunk(index) for index in choices]
        await _send_events(send, [*closing, answer.usage_chunk() if request.include_usage else None])
        await send_chunk(send, b"data: [DONE]\n\n", more=False)


async def _send_events(send: Send, chunks: list[dict[str, Any] | None]) -> None:
    events = b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks if chunk)
    if events:
        await send_chunk(send, events, more=True)


async def _do_nothing() -> None:
    pass
