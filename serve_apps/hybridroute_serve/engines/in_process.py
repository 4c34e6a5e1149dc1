"""Calls an ASGI application in this process as a client would: no socket, no second HTTP parser.

The application runs in a task of its own for each call. Closing the answer tells it that its client is gone, as a
server does; only one that does not listen is cancelled. To cancel at once would not do: vLLM answers in a further
task, which a cancelled one leaves behind, working for nobody.
"""

import asyncio
import logging
from collections.abc import MutableMapping
from typing import Any

from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["AppAnswer", "post_to_app", "read_whole"]

_log = logging.getLogger(__name__)

_HIGH_WATER_BYTES = 256 * 1024
"""What waits for a slow reader before the application waits too; uvicorn's is 64 KiB, and a socket's beside it."""

_GRACE_SECONDS = 5.0
"""How long an application whose client is gone may take to end by itself."""

_Message = MutableMapping[str, Any]


async def post_to_app(
    app: ASGIApp, path: str, body: bytes, headers: list[tuple[bytes, bytes]]
) -> "AppAnswer":
    """POST JSON to the application; return its answer once the head is there. Raises OSError when it fails before.

    `headers` are lower-case, without the body's type and length.
    """
    scope: _Message = {
        "type": "http",
        # From 2.4 on a stream would not listen for the client's leaving, and uvicorn says 2.3.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            *headers,
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
    answer = AppAnswer(app, scope, body)
    try:
        await answer.wait_for_head()
    except BaseException:
        answer.close()
        raise
    return answer


async def read_whole(answer: "AppAnswer") -> bytes:
    """Return the whole body. Raises OSError when it breaks off."""
    chunks = []
    while chunk := await answer.readany():
        chunks.append(chunk)
    return b"".join(chunks)


class AppAnswer:
    """The answer to one call of an application."""

    def __init__(self, app: ASGIApp, scope: _Message, body: bytes) -> None:
        self.status = 0
        self.raw_headers: tuple[tuple[bytes, bytes], ...] = ()
        self.content = self
        self._body: bytes | None = body
        self._waiting = bytearray()
        self._ended = False
        self._failed = False
        self._head = asyncio.Event()
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._gone = asyncio.Event()
        self._task = asyncio.create_task(self._run(app, scope))

    async def wait_for_head(self) -> None:
        """Return once status and headers are there."""
        await self._head.wait()
        if not self.status:
            raise ConnectionResetError("the engine's application failed")

    async def readany(self) -> bytes:
        """Return what has come, or wait for more; empty at the end. Raises OSError when it broke off."""
        while not self._waiting and not self._ended:
            self._filled.clear()
            await self._filled.wait()
        chunk = bytes(self._waiting)
        self._waiting.clear()
        self._drained.set()
        if not chunk and self._failed:
            raise ConnectionResetError("the engine's application broke off")
        return chunk

    def close(self) -> None:
        """Tell the application that its client is gone; no effect after its end."""
        if self._gone.is_set() or self._task.done():
            return
        self._gone.set()
        self._drained.set()
        asyncio.get_running_loop().call_later(_GRACE_SECONDS, self._task.cancel)

    async def _run(self, app: ASGIApp, scope: _Message) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - whatever it is, the attempt must end
            self._failed = True
            if not self._gone.is_set():
                _log.warning("engine's application failed error=%s", type(error).__name__)
        finally:
            self._failed = self._failed or not self._ended
            self._ended = True
            self._head.set()
            self._filled.set()

    async def _receive(self) -> _Message:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: _Message) -> None:
        if self._gone.is_set():
            return
        if message["type"] == "http.response.start":
            self.raw_headers = tuple((bytes(name), bytes(value)) for name, value in message["headers"])
            self.status = message["status"]
            self._head.set()
            return
        while len(self._waiting) > _HIGH_WATER_BYTES and not self._gone.is_set():
            self._drained.clear()
            await self._drained.wait()
        self._waiting += message.get("body", b"")
        self._ended = not message.get("more_body", False)
        self._filled.set()
