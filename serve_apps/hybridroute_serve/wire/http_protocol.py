"""uvicorn's HTTP protocol with a response's head and the first of its body in one write.

uvicorn writes the head when the response starts, and uvloop makes each write a system call at once: every answer would
leave as two segments, for which each process on its way wakes twice. The head is held until the body's first bytes
come, or until the loop's next turn.

A request says who is to be told when its client leaves, so that nothing has to wait for that beside the request.
"""

import asyncio
from typing import Any

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["LEAVING", "HoldingTransport", "HttpProtocol", "Leaving", "use_http_protocol"]

LEAVING = "hybridroute.leaving"
"""The scope's extension that holds a `Leaving`."""

_HEAD = b"HTTP/1.1 "
_LONG_BYTES = 64 * 1024
"""A body that is longer is not copied behind its head."""


class Leaving:
    """Cancels a request's task when its client leaves before the answer is whole."""

    __slots__ = ("task",)

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None

    def leave(self) -> None:
        """Cancel the task, if there is one."""
        if self.task is not None:
            self.task.cancel()


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without uvicorn's reading of `X-Forwarded-For`, which any client may send and nothing here asks for."""
        super().__init__(*args, **kwargs)
        if isinstance(self.app, ProxyHeadersMiddleware):
            self.app = self.app.app

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a transport that holds heads."""
        self._holding = HoldingTransport(transport, self.loop)
        super().connection_made(self._holding)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of what nobody can be sent any more."""
        self._holding.drop()
        super().connection_lost(exc)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            extensions: Any = cycle.scope["extensions"]
            extensions[LEAVING].leave()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {LEAVING: Leaving()}  # type: ignore[dict-item]

    def on_message_complete(self) -> None:
        """End a request's body, and read on: a client that leaves is seen by nothing else."""
        super().on_message_complete()
        if not self.pipeline:
            self.flow.resume_reading()


class HoldingTransport:
    """A transport that holds what begins a response until more comes, or the loop turns."""

    __slots__ = ("_held", "_loop", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write at once, or hold what looks like a head; a body that does is late by a turn, and in order."""
        held = self._held
        if held:
            self._held = b""
            if len(data) > _LONG_BYTES:
                self._transport.writelines((held, data))
            else:
                self._transport.write(held + data)
        elif data[: len(_HEAD)] == _HEAD:
            self._held = data
            self._loop.call_soon(self._flush)
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Close behind what is held."""
        self._flush()
        self._transport.close()

    def drop(self) -> None:
        """Forget what is held."""
        self._held = b""

    def _flush(self) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)


def use_http_protocol() -> None:
    """Make it the protocol of every server that this process starts: Serve leaves the choice to uvicorn."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{HttpProtocol.__name__}"
