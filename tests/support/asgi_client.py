"""Drives an ASGI application without a server, as Ray Serve does: a client that leaves cancels the handler."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["AsgiAnswer", "AsgiClient"]


@dataclass
class AsgiAnswer:
    """What the application has sent so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)


class AsgiClient:
    """One client of one application."""

    def __init__(self, app: ASGIApp, *, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self.reading: asyncio.Event | None = None
        """A client that reads nothing until it is set, if it is there."""

    def start(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        pieces: int = 1,
    ) -> tuple[asyncio.Task[None], AsgiAnswer, asyncio.Event]:
        """Begin a request. Returns the handler's task, the answer as it grows, and an event set at each message."""
        answer = AsgiAnswer()
        progressed = asyncio.Event()
        size = max(1, -(-len(body) // pieces))
        parts = [body[i : i + size] for i in range(0, len(body), size)] or [b""]

        async def receive() -> MutableMapping[str, Any]:
            if parts:
                part = parts.pop(0)
                return {"type": "http.request", "body": part, "more_body": bool(parts)}
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

        async def send(message: MutableMapping[str, Any]) -> None:
            if self.reading is not None:
                await self.reading.wait()
            if message["type"] == "http.response.start":
                assert not answer.status, "two starts"
                answer.status = message["status"]
                for name, value in message["headers"]:
                    assert name.decode() not in answer.headers, f"{name!r} sent twice"
                    answer.headers[name.decode()] = value.decode()
            else:
                assert answer.status, "body before start"
                assert not answer.ended, "body after the end"
                answer.chunks.append(message.get("body", b""))
                answer.ended = not message.get("more_body", False)
            progressed.set()

        sent = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": self._root_path + path,
            "query_string": query.encode(),
            "root_path": self._root_path,
            "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        }
        return asyncio.create_task(self._app(scope, receive, send)), answer, progressed

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        pieces: int = 1,
    ) -> AsgiAnswer:
        """Send a request and wait for its end."""
        task, answer, _ = self.start(method, path, body, headers, pieces)
        await task
        assert answer.ended
        return answer

    async def post(self, path: str, document: Any, headers: dict[str, str] | None = None) -> AsgiAnswer:
        """POST a JSON document."""
        return await self.request("POST", path, json.dumps(document).encode(), headers)


async def lifespan(app: ASGIApp) -> AsyncIterator[None]:
    """Run an application's lifespan around a `yield`."""
    inbox: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    outbox: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, inbox.get, outbox.put))
    await inbox.put({"type": "lifespan.startup"})
    assert (await outbox.get())["type"] == "lifespan.startup.complete"
    yield
    await inbox.put({"type": "lifespan.shutdown"})
    assert (await outbox.get())["type"] == "lifespan.shutdown.complete"
    await task
