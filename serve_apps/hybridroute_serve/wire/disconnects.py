"""A request's work ends when its client leaves: the task that does it is cancelled.

Serve would watch from the first moment, with two tasks more for every request. Most are answered before anybody could
leave, so the watch begins only after a while; a client that left before is noticed then. Used by the Ray edge.
"""

import asyncio
from collections.abc import MutableMapping
from typing import Any, Final

from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["WATCH_AFTER_SECONDS", "CancelOnDisconnect"]

WATCH_AFTER_SECONDS: Final = 0.05


class CancelOnDisconnect:
    """An application whose task is cancelled within `after_seconds` of its client's leaving.

    A client that leaves while its body arrives is told to the application, by the message that ASGI has for it.
    """

    def __init__(self, app: ASGIApp, *, after_seconds: float = WATCH_AFTER_SECONDS) -> None:
        self._app = app
        self._after_seconds = after_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other kinds of scope are handed on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive, send, self._after_seconds)
        try:
            await self._app(scope, watch.receive, watch.send)
        finally:
            watch.end()


class _Watch:
    """Stands between server and application for one request."""

    __slots__ = ("_after_seconds", "_answered", "_gone", "_receive", "_send", "_task", "_timer", "_watcher")

    def __init__(self, receive: Receive, send: Send, after_seconds: float) -> None:
        self._receive = receive
        self._send = send
        self._after_seconds = after_seconds
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._gone: asyncio.Event | None = None
        self._answered = False

    async def receive(self) -> MutableMapping[str, Any]:
        """Return a piece of the body; after its end, wait for the client to leave or the answer to be complete."""
        if self._timer is not None:
            if self._gone is None:
                self._gone = asyncio.Event()
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._timer = asyncio.get_running_loop().call_later(self._after_seconds, self._begin)
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Hand a message on; after the last one there is nothing to cancel."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._answered = True
        await self._send(message)

    def end(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _begin(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        # The body has been read: the next message is that the client has left, or that the answer is complete.
        await self._receive()
        if self._gone is not None:
            self._gone.set()
        if not self._answered and self._task is not None:
            self._task.cancel()
