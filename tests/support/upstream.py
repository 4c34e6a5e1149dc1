"""A provider that does as it is told: OpenAI-compatible answers, and every way in which one can fail.

Raw TCP on loopback in the test's own loop, so that resets, silences and cuts are real ones. It counts attempts and
open connections and remembers what it was sent.
"""

import asyncio
import json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "DONE",
    "Exchange",
    "ReceivedRequest",
    "Script",
    "ScriptedUpstream",
    "answer_json",
    "answer_status",
    "chat_answer",
    "closed_port",
    "content_event",
    "event",
    "finish_event",
    "hang_after_headers",
    "hang_before_headers",
    "reset_after_headers",
    "reset_before_answer",
    "role_event",
    "running_upstream",
    "stream",
    "stream_cut",
    "stream_reset",
    "stream_then_hang",
    "usage_event",
]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True)
class ReceivedRequest:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Exchange:
    """One request and the connection to answer it on; what a script works with."""

    def __init__(
        self, request: ReceivedRequest, writer: asyncio.StreamWriter, client_gone: asyncio.Event
    ) -> None:
        self.request = request
        self.client_gone = client_gone
        self.closed = False
        """This side has closed the connection."""
        self._writer = writer

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self._writer.write(data)
            await self._writer.drain()

    async def send_head(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        lines = [f"HTTP/1.1 {status} Scripted"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        await self.send("\r\n".join([*lines, "", ""]).encode("latin-1"))

    async def start_stream(self, headers: dict[str, str] | None = None) -> None:
        await self.send_head(
            200,
            {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **(headers or {})},
        )

    async def send_chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Close with RST, as a killed process or a middlebox does."""
        self.closed = True
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    def close(self) -> None:
        """Close in the middle of whatever was being sent."""
        self.closed = True
        self._writer.close()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class ScriptedUpstream:
    """The provider. Queue scripts in `scripts`; when they have run out, `default` answers."""

    base_url: str = ""
    default: Script | None = None
    scripts: deque[Script] = field(default_factory=deque)
    requests: list[ReceivedRequest] = field(default_factory=list)
    connections: int = 0
    """Accepted in all."""
    open_connections: int = 0
    clients_gone: int = 0
    """Connections that the other side closed while a script was at work."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def attempts(self) -> int:
        return len(self.requests)

    async def wait_until(self, holds: Callable[["ScriptedUpstream"], bool], seconds: float = 5.0) -> None:
        """Wait for a state of the counters; TimeoutError says that it never came."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: holds(self))

    async def serve_connection(self, reader: "_NoticingReader", writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while (request := await _read_request(reader)) is not None:
                self.requests.append(request)
                await self._notify()
                if not await self._answer(request, reader, writer):
                    return
        except ConnectionError:
            pass  # the client went away between requests
        finally:
            self.open_connections -= 1
            writer.close()
            await self._notify()

    async def _answer(
        self, request: ReceivedRequest, reader: "_NoticingReader", writer: asyncio.StreamWriter
    ) -> bool:
        """Run the script. Returns whether the connection can be used again."""
        script = self.scripts.popleft() if self.scripts else self.default
        assert script is not None, "no script for this request"
        exchange = Exchange(request, writer, reader.ended)
        watch = asyncio.ensure_future(reader.ended.wait())
        work = asyncio.ensure_future(script(exchange))
        try:
            await asyncio.wait({watch, work}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            if reader.ended.is_set() and not exchange.closed:
                self.clients_gone += 1
            return not exchange.closed and not reader.ended.is_set()
        finally:
            for task in (watch, work):
                task.cancel()
            await asyncio.gather(watch, work, return_exceptions=True)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()


class _NoticingReader(asyncio.StreamReader):
    """A reader that says at once when the other side has closed, whoever is reading."""

    def __init__(self) -> None:
        super().__init__(limit=64 * 1024 * 1024)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


async def _read_request(reader: asyncio.StreamReader) -> ReceivedRequest | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None  # closed between requests
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return ReceivedRequest(method, path, headers, body)


@asynccontextmanager
async def running_upstream(
    default: Script | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(default=default or answer_json(chat_answer()))
    tasks: set[asyncio.Task[None]] = set()

    def make_protocol() -> asyncio.StreamReaderProtocol:
        reader = _NoticingReader()

        def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(upstream.serve_connection(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        return asyncio.StreamReaderProtocol(reader, accept)

    server = await asyncio.get_running_loop().create_server(
        make_protocol, "127.0.0.1", 0, backlog=1024, ssl=tls
    )
    scheme = "http" if tls is None else "https"
    upstream.base_url = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield upstream
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def closed_port() -> int:
    """Return a port on loopback that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# What is said: bodies and events.


def chat_answer(
    text: str = "Hello there", usage: dict[str, Any] | None = None, **changes: Any
) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "big-2025",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage or {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    return answer | changes


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], "usage": None})


def role_event() -> bytes:
    return _chunk({"role": "assistant", "content": ""})


def content_event(text: str) -> bytes:
    return _chunk({"content": text})


def finish_event(reason: str = "stop") -> bytes:
    return _chunk({}, reason)


def usage_event(prompt_tokens: int = 100, completion_tokens: int = 20, **details: Any) -> bytes:
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, **details}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": usage})


# What is done: scripts.


def answer_json(
    document: Any, *, status: int = 200, headers: dict[str, str] | None = None, raw: bytes | None = None
) -> Script:
    body = json.dumps(document).encode() if raw is None else raw

    async def script(exchange: Exchange) -> None:
        await exchange.send_head(
            status,
            {"Content-Type": "application/json", "Content-Length": str(len(body)), **(headers or {})},
        )
        await exchange.send(body)

    return script


def answer_status(status: int, headers: dict[str, str] | None = None) -> Script:
    error = {"message": "scripted", "type": "server_error", "param": None, "code": None}
    return answer_json({"error": error}, status=status, headers=headers)


def stream(
    chunks: Sequence[bytes],
    *,
    headers: dict[str, str] | None = None,
    before_each: Callable[[int], Awaitable[object]] | None = None,
) -> Script:
    """Send chunks and an orderly end. `before_each` gets the chunk's number and can hold it back."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream(headers)
        for number, chunk in enumerate(chunks):
            if before_each is not None:
                await before_each(number)
            await exchange.send_chunk(chunk)
        await exchange.end_stream()

    return script


def stream_cut(chunks: Sequence[bytes]) -> Script:
    """Send chunks, then close without the body's end."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in chunks:
            await exchange.send_chunk(chunk)
        exchange.close()

    return script


def stream_reset(chunks: Sequence[bytes], when: asyncio.Event | None = None) -> Script:
    """Send chunks, then reset the connection, once `when` is set: a reset drops what is still unread."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in chunks:
            await exchange.send_chunk(chunk)
        if when is not None:
            await when.wait()
        exchange.reset()

    return script


def stream_then_hang(chunks: Sequence[bytes]) -> Script:
    """Send chunks, then nothing until the client closes."""

    async def script(exchange: Exchange) -> None:
        await exchange.start_stream()
        for chunk in chunks:
            await exchange.send_chunk(chunk)
        await exchange.client_gone.wait()

    return script


async def hang_before_headers(exchange: Exchange) -> None:
    await exchange.client_gone.wait()


async def hang_after_headers(exchange: Exchange) -> None:
    await exchange.send_head(200, {"Content-Type": "application/json", "Content-Length": "100"})
    await exchange.client_gone.wait()


async def reset_before_answer(exchange: Exchange) -> None:
    exchange.reset()


async def reset_after_headers(exchange: Exchange) -> None:
    await exchange.send_head(200, {"Content-Type": "application/json", "Content-Length": "100"})
    exchange.reset()
