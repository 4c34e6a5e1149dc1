"""Small raw-ASGI pieces for hot routes: headers, bodies with a limit, answers.

Deliberately no routing and no middleware: the hot applications have two routes each, and a framework's share
of a request is larger than ours. Cold routes use Starlette. Used by router, llm-proxy and slm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from typing import Any

from hybridroute_serve.wire.errors import ErrorAnswer

__all__ = [
    "ASGIApp",
    "BodyTooLargeError",
    "ClientDisconnectedError",
    "EncodedBodyError",
    "Headers",
    "Receive",
    "Scope",
    "Send",
    "find_header",
    "read_body",
    "refuse_connection",
    "refuse_encoded_body",
    "request_headers",
    "send_answer",
    "send_chunk",
    "send_error",
    "send_start",
    "serve_lifespan",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]

_DISCARD_BYTES = 64 * 1024 * 1024
_DISCARD_SECONDS = 5.0

JSON_CONTENT_TYPE = (b"content-type", b"application/json")


class BodyTooLargeError(Exception):
    """The body is, or says that it is, longer than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"body exceeds {limit_bytes} bytes")
        self.limit_bytes = limit_bytes


class EncodedBodyError(Exception):
    """The body is compressed. It is not unpacked: what travels on is what came, and a small bomb is a large body."""

    def __init__(self, encoding: str) -> None:
        super().__init__(f"content-encoding {encoding}")
        self.encoding = encoding


class ClientDisconnectedError(Exception):
    """The client went away before its body had arrived."""


def request_headers(scope: Scope) -> list[tuple[bytes, bytes]]:
    """Return the request's headers; names are lower case, as ASGI promises."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    return headers


def find_header(scope: Scope, name: str) -> str | None:
    """Return the first value of a header, or None. `name` is lower case."""
    wanted = name.encode("latin-1")
    for key, value in request_headers(scope):
        if key == wanted:
            return value.decode("latin-1")
    return None


def refuse_encoded_body(scope: Scope) -> None:
    """Raise `EncodedBodyError` for a content encoding other than none."""
    encoding = find_header(scope, "content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        raise EncodedBodyError(encoding)


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """Read the whole body.

    A declared length is judged before a byte is read; a chunked body is counted as it arrives. Of a body that is too
    long a bounded rest is read and thrown away: a client that still sends would not see the answer.
    Raises `BodyTooLargeError` and `ClientDisconnectedError`.
    """
    declared = find_header(scope, "content-length")
    if declared is not None and declared.isascii() and declared.isdigit() and int(declared) > limit_bytes:
        if int(declared) <= limit_bytes + _DISCARD_BYTES:
            await _discard_body(receive, 0)
        raise BodyTooLargeError(limit_bytes)
    chunks: list[bytes] = []
    seen_bytes = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectedError
        chunk: bytes = message.get("body", b"")
        seen_bytes += len(chunk)
        if seen_bytes > limit_bytes:
            chunks.clear()
            if message.get("more_body", False):
                await _discard_body(receive, seen_bytes - limit_bytes)
            raise BodyTooLargeError(limit_bytes)
        if chunk:
            chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _discard_body(receive: Receive, discarded_bytes: int) -> None:
    """Read on until the end, or until enough was thrown away or waited for. Raises `ClientDisconnectedError`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            while discarded_bytes <= _DISCARD_BYTES:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnectedError
                discarded_bytes += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def send_start(send: Send, status: int, headers: Headers) -> None:
    """Send status and headers; the body follows in chunks."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def send_chunk(send: Send, body: bytes, *, more: bool) -> None:
    """Send a piece of the body; `more=False` ends the answer."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def send_answer(send: Send, status: int, body: bytes, headers: Headers = ()) -> None:
    """Send a whole JSON answer with its length. A content type among `headers` replaces JSON's."""
    answer_headers = list(headers)
    if not any(name == b"content-type" for name, _ in answer_headers):
        answer_headers.append(JSON_CONTENT_TYPE)
    answer_headers.append((b"content-length", str(len(body)).encode()))
    await send_start(send, status, answer_headers)
    await send_chunk(send, body, more=False)


async def send_error(send: Send, error: ErrorAnswer, headers: Headers = ()) -> None:
    """Send an error of our own in OpenAI's shape."""
    await send_answer(send, error.status, error.body(), [*error.headers, *headers])


async def refuse_connection(send: Send) -> None:
    """Refuse a WebSocket before it is accepted, which the server answers with 403."""
    await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not served"})


async def serve_lifespan(
    receive: Receive, send: Send, *, start: Callable[[], Awaitable[None]], stop: Callable[[], Awaitable[None]]
) -> None:
    """Run an application's lifespan protocol: start once, stop once.

    An exception of `start` reaches the server, which refuses to serve.
    """
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await start()
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            await stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
