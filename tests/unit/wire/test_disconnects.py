"""A client that leaves ends the work for it, and one that stays is not disturbed."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import pytest

from hybridroute_serve.wire.asgi import Receive, Scope, Send, read_body, send_answer, send_chunk, send_start
from hybridroute_serve.wire.disconnects import CancelOnDisconnect

Message = MutableMapping[str, Any]
SCOPE: Scope = {"type": "http", "headers": []}
BODY: Message = {"type": "http.request", "body": b"{}", "more_body": False}
LEFT: Message = {"type": "http.disconnect"}


class Server:
    """The server's side of a request: a body, and a client that leaves when it is told to."""

    def __init__(self, *messages: Message) -> None:
        self._messages = list(messages)
        self.left = asyncio.Event()
        self.asked = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        self.asked += 1
        if self._messages:
            return self._messages.pop(0)
        await self.left.wait()
        return LEFT

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message["more_body"]:
            # As uvicorn does: there is nothing more to receive.
            self.left.set()

    async def serve(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], after: float = 0.0) -> None:
        await CancelOnDisconnect(app, after_seconds=after)(SCOPE, self.receive, self.send)


async def test_the_work_is_cancelled_when_the_client_leaves() -> None:
    server, ended = Server(BODY), []

    async def app(scope: Scope, receive: Receive, _send: Send) -> None:
        await read_body(scope, receive, 10)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    asyncio.get_running_loop().call_later(0.01, server.left.set)
    with pytest.raises(asyncio.CancelledError):
        await server.serve(app)
    assert ended == ["cancelled"]


async def test_a_stream_is_cancelled_between_its_chunks() -> None:
    server = Server(BODY)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(scope, receive, 10)
        await send_start(send, 200, [])
        while True:
            await send_chunk(send, b"x", more=True)
            await asyncio.sleep(0.001)

    asyncio.get_running_loop().call_later(0.02, server.left.set)
    with pytest.raises(asyncio.CancelledError):
        await server.serve(app)
    assert len(server.sent) > 2


async def test_what_is_done_after_the_answer_is_not_cancelled() -> None:
    server, done = Server(BODY), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(scope, receive, 10)
        await asyncio.sleep(0.01)
        await send_answer(send, 200, b"{}")
        await asyncio.sleep(0.01)
        done.append("recorded")

    await server.serve(app)
    assert done == ["recorded"]
    assert [message["type"] for message in server.sent] == ["http.response.start", "http.response.body"]


async def test_a_short_request_is_not_watched() -> None:
    server = Server(BODY)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(scope, receive, 10)
        await send_answer(send, 200, b"{}")

    await server.serve(app, after=60)
    assert server.asked == 1
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_that_leaves_while_it_sends_is_told_and_not_cancelled() -> None:
    server, told = Server(BODY | {"more_body": True}, LEFT), []

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        assert (await receive())["more_body"]
        told.append((await receive())["type"])
        await asyncio.sleep(0.01)
        told.append((await receive())["type"])

    asyncio.get_running_loop().call_soon(server.left.set)
    await server.serve(app)
    assert told == ["http.disconnect", "http.disconnect"]


async def test_an_application_that_waits_for_the_client_to_leave_is_told() -> None:
    server, told = Server(BODY), []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0.01)
        await send_answer(send, 200, b"{}")
        told.append((await waiting)["type"])

    await server.serve(app)
    assert told == ["http.disconnect"]


async def test_other_scopes_are_handed_on() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])
        assert receive == server.receive
        assert send == server.send

    server = Server()
    await CancelOnDisconnect(app)({"type": "lifespan"}, server.receive, server.send)
    assert seen == ["lifespan"]
