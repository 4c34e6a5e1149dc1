"""Bodies of upstreams: read within bounds of size and time, and sent without holding the loop."""

import asyncio
import io
from collections.abc import Callable

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from hybridroute_serve.upstream.transport import Response
from hybridroute_serve.wire.answers import InvalidAnswerError

__all__ = ["ANSWER_LIMIT_BYTES", "as_payload", "drain", "read_answer", "read_refusal"]

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
"""Longest unary answer, and most of a stream that is held before its commit."""
_REFUSAL_LIMIT_BYTES = 64 * 1024
"""Most of an error answer that is read; OpenAI's are below 1 KiB."""
_REFUSAL_SECONDS = 2.0
"""How long an error answer's body is waited for once its status is there."""
_WHOLE_LIMIT_BYTES = 1024 * 1024
"""Longest body that is written to the socket at once."""
_DRAIN_SECONDS = 0.25
"""How long the end of a body is waited for after `[DONE]`."""


class _Noted(aiohttp.Payload):
    """Says when it is written, which is when the request goes out: aiohttp's own traces cost six calls a request."""

    on_sent: Callable[[], None]

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self.on_sent()
        await super().write_with_length(writer, content_length)


class _NotedBody(_Noted, aiohttp.BytesPayload):
    pass


class _NotedLongBody(_Noted, aiohttp.BytesIOPayload):
    pass


def as_payload(body: bytes, on_sent: Callable[[], None] = lambda: None) -> aiohttp.Payload:
    """Return what aiohttp should send: a long body is read in pieces, so that other requests get their turn.

    `on_sent` is called once a connection stands and the request goes out on it.
    """
    noted = _NotedBody(body) if len(body) <= _WHOLE_LIMIT_BYTES else _NotedLongBody(io.BytesIO(body))
    noted.on_sent = on_sent
    return noted


async def read_answer(response: Response) -> bytes:
    """Read a whole answer. Raises `InvalidAnswerError` when it is too long, and what aiohttp raises."""
    return await _read_bounded(response, ANSWER_LIMIT_BYTES)


async def read_refusal(response: Response) -> bytes:
    """Read an error answer if it comes soon and is short; the status alone says enough, so else it is empty."""
    try:
        async with asyncio.timeout(_REFUSAL_SECONDS):
            return await _read_bounded(response, _REFUSAL_LIMIT_BYTES)
    except (TimeoutError, aiohttp.ClientError, InvalidAnswerError):
        response.close()
        return b""


async def drain(response: Response) -> None:
    """Read to the end, so that the connection goes back to the pool; close it if that takes long."""
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError):
        pass  # closed below
    finally:
        response.close()


async def _read_bounded(response: Response, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    while chunk := await response.content.readany():
        chunks.append(chunk)
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise InvalidAnswerError(f"answer was longer than {limit_bytes} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
