"""The door of a path application: who may come in, what may be asked, and how a refusal is said.

The llm-proxy and the SLM have the same two operations behind the same internal token; a refusal of either names its
`Outcome`, so that the router can tell it from an answer of the ingress. What happens to a request inside is theirs.
"""

from collections.abc import Awaitable, Callable

from hybridroute_api.vocabulary import Api, InternalHeader, Outcome
from hybridroute_serve.upstream.relay import RelayRequest
from hybridroute_serve.wire.asgi import (
    ASGIApp,
    BodyTooLargeError,
    ClientDisconnectedError,
    Receive,
    Scope,
    Send,
    find_header,
    read_body,
    refuse_connection,
    request_headers,
    send_answer,
    send_error,
    serve_lifespan,
)
from hybridroute_serve.wire.errors import (
    ErrorAnswer,
    InvalidRequest,
    body_too_large,
    invalid_request,
    method_not_allowed,
    unauthorized_internal,
    unsupported_endpoint,
)
from hybridroute_serve.wire.headers import headers_for_provider, is_internal_token, own_headers
from hybridroute_serve.wire.requests import parse_request

__all__ = ["PathDoor", "ServePath", "read_relay_request", "refuse"]

_OPERATIONS = {
    "/v1/chat/completions": (Api.CHAT_COMPLETIONS, "/chat/completions"),
    "/v1/completions": (Api.COMPLETIONS, "/completions"),
}
_HEALTH = "/healthz"
_SUPPORTED = tuple(f"POST {path}" for path in _OPERATIONS)

ServePath = Callable[[str, Scope, Receive, Send], Awaitable[None]]
"""Serves one of the operations. May raise what `read_relay_request` raises."""


class PathDoor:
    """The ASGI application of a path: lifespan, health, token, operations."""

    def __init__(
        self,
        token: str,
        serve: ServePath,
        *,
        start: Callable[[], Awaitable[None]],
        stop: Callable[[], Awaitable[None]],
        beside: Callable[[], ASGIApp | None] = lambda: None,
    ) -> None:
        """`beside`: an application that answers every other path, behind the same token."""
        self._beside = beside
        self._token = token
        self._serve = serve
        self._start = start
        self._stop = stop

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, start=self._start, stop=self._stop)
        elif scope["type"] == "websocket":
            await refuse_connection(send)
        else:
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = scope["method"]
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if path == _HEALTH and method in ("GET", "HEAD"):
            await send_answer(send, 200, b'{"status":"ok"}')
        elif not is_internal_token(find_header(scope, InternalHeader.TOKEN), self._token):
            await refuse(send, unauthorized_internal(), Outcome.REJECTED)
        elif path not in _OPERATIONS:
            other = self._beside()
            if other is not None:
                await other(
                    {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}, receive, send
                )
                return
            await refuse(send, unsupported_endpoint(method, path, _SUPPORTED), Outcome.CLIENT_ERROR)
        elif method != "POST":
            await refuse(send, method_not_allowed(method, path, "POST"), Outcome.CLIENT_ERROR)
        else:
            await self._let_in(path, scope, receive, send)

    async def _let_in(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._serve(path, scope, receive, send)
        except BodyTooLargeError as error:
            await refuse(send, body_too_large(error.limit_bytes), Outcome.CLIENT_ERROR)
        except InvalidRequest as error:
            await refuse(send, invalid_request(error), Outcome.CLIENT_ERROR)
        except ClientDisconnectedError:
            return


async def read_relay_request(path: str, scope: Scope, receive: Receive, limit_bytes: int) -> RelayRequest:
    """Read an operation's request.

    Raises `BodyTooLargeError`, `InvalidRequest` and `ClientDisconnectedError`, which the door answers.
    """
    api, operation = _OPERATIONS[path]
    body = await read_body(scope, receive, limit_bytes)
    headers = request_headers(scope)
    internal = own_headers(headers)
    request_id = internal.get(InternalHeader.REQUEST_ID)
    if not request_id:
        raise InvalidRequest(None, f"The header {InternalHeader.REQUEST_ID} is missing.")
    return RelayRequest(
        request_id=request_id,
        gate=internal.get(InternalHeader.GATE, ""),
        operation=operation,
        parsed=parse_request(body, api),
        body=body,
        headers=headers_for_provider(headers),
        internal=internal,
    )


async def refuse(send: Send, error: ErrorAnswer, outcome: Outcome) -> None:
    """Answer an error of our own and say its outcome to the router."""
    await send_error(send, error, [(InternalHeader.FAILURE.encode(), outcome.encode())])
