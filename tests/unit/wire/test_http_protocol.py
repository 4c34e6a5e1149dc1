"""A response's head leaves with the first of its body, and nothing of a response is lost, doubled or out of order."""

import asyncio
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.config import HTTP_PROTOCOLS

from hybridroute_serve.wire.asgi import Receive, Scope, Send, send_answer, send_chunk, send_start
from hybridroute_serve.wire.http_protocol import HoldingTransport, HttpProtocol, use_http_protocol
from support.own_server import serving

Serve = Callable[[Send], Awaitable[None]]


class Watched(HttpProtocol):
    """Notes what reaches the transport, write by write."""

    writes: list[bytes]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(Watching(transport, self.writes))  # type: ignore[arg-type]


class Watching:
    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self._writes.append(b"".join(pieces))
        self._transport.writelines(pieces)


@asynccontextmanager
async def served(answer: Serve) -> AsyncIterator[tuple[int, list[bytes]]]:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await answer(send)

    writes: list[bytes] = []
    async with serving(app, type("P", (Watched,), {"writes": writes})) as port:
        yield port, writes


async def ask(port: int, request: bytes = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n") -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answered = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answered


async def exchange(answer: Serve, **given: bytes) -> tuple[bytes, list[bytes]]:
    async with served(answer) as (port, writes):
        return await ask(port, **given), writes


def test_an_answer_is_one_write() -> None:
    async def answer(send: Send) -> None:
        await send_answer(send, 200, b'{"status":"ok"}')

    answered, writes = uvloop.run(exchange(answer))
    assert answered.endswith(b'\r\n\r\n{"status":"ok"}')
    assert writes == [answered]


def test_a_client_does_not_say_who_it_is() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        await send_answer(send, 200, scope["client"][0].encode())

    async def converse() -> bytes:
        async with serving(app) as port:
            return await ask(
                port, b"GET / HTTP/1.1\r\nx-forwarded-for: 10.1.2.3\r\nconnection: close\r\n\r\n"
            )

    assert uvloop.run(converse()).endswith(b"\r\n\r\n127.0.0.1")


def test_a_stream_begins_with_its_first_chunk() -> None:
    async def answer(send: Send) -> None:
        await send_start(send, 200, [])
        for number in range(3):
            await send_chunk(send, b"data: %d\n\n" % number, more=number < 2)

    answered, writes = uvloop.run(exchange(answer))
    assert len(writes) == 3
    assert writes[0].endswith(b"\r\n\r\n9\r\ndata: 0\n\n\r\n")
    assert b"".join(writes) == answered


def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    begun = asyncio.Event()

    async def answer(send: Send) -> None:
        await send_start(send, 200, [(b"content-length", b"2")])
        await begun.wait()
        await send_chunk(send, b"ok", more=False)

    async def converse() -> None:
        async with served(answer) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200")
            begun.set()
            assert await asyncio.wait_for(reader.readexactly(2), 10) == b"ok"
            writer.close()

    uvloop.run(converse())


def test_a_head_is_dropped_when_the_client_resets_before_it_leaves() -> None:
    problems: list[dict[str, Any]] = []
    asked, gone = threading.Event(), threading.Event()

    async def answer(send: Send) -> None:
        # The loop stands still meanwhile, so that the reset and the head's turn are due at once.
        asked.set()
        assert gone.wait(10)
        await asyncio.sleep(0)
        await send_start(send, 200, [])
        await asyncio.sleep(0.05)

    def reset(port: int) -> None:
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert asked.wait(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        gone.set()

    async def converse() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        async with served(answer) as (port, _):
            await asyncio.to_thread(reset, port)
            await asyncio.sleep(0.2)

    uvloop.run(converse())
    assert problems == []


def test_what_is_held_leaves_before_the_connection_closes() -> None:
    async def answer(send: Send) -> None:
        raise AssertionError("never asked")

    answered, _ = uvloop.run(exchange(answer, request=b"no HTTP at all\r\n\r\n"))
    assert answered.startswith(b"HTTP/1.1 400")
    assert answered.endswith(b"Invalid HTTP request received.")


class Fake:
    """Transport and loop in one; `turn` is the loop's next turn."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed_behind: int | None = None
        self._soon: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        self.sent.append(data)

    def writelines(self, pieces: tuple[bytes, ...]) -> None:
        self.sent.append(b"".join(pieces))

    def close(self) -> None:
        self.closed_behind = len(b"".join(self.sent))

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def turn(self) -> None:
        soon, self._soon = self._soon, []
        for callback in soon:
            callback()


HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
DATA = st.one_of(
    st.binary(max_size=40), st.just(HEAD), st.integers(65_530, 65_540).map(lambda size: b"x" * size)
)


@given(steps=st.lists(st.one_of(st.none(), DATA), max_size=12))
def test_whatever_is_written_arrives_once_in_order_and_within_a_turn(steps: list[bytes | None]) -> None:
    fake = Fake()
    transport = HoldingTransport(fake, fake)  # type: ignore[arg-type]
    written = b""
    for step in steps:
        if step is None:
            fake.turn()
            assert b"".join(fake.sent) == written
        else:
            transport.write(step)
            written += step
            sent = b"".join(fake.sent)
            assert sent == written or (sent + step == written and step.startswith(b"HTTP/1.1 "))
    transport.close()
    assert b"".join(fake.sent) == written
    assert fake.closed_behind == len(written)


def test_it_is_what_uvicorn_takes_by_itself() -> None:
    before = HTTP_PROTOCOLS["auto"]
    try:
        use_http_protocol()
        config = uvicorn.Config(lambda: None, lifespan="off", log_config=None)
        config.load()
        assert config.http_protocol_class is HttpProtocol
    finally:
        HTTP_PROTOCOLS["auto"] = before
