"""An application that is called in the same process: whole answers, streams, failures, and readers that leave."""

import asyncio
import json

import pytest

from hybridroute_serve.engines.in_process import post_to_app, read_whole
from hybridroute_serve.wire.asgi import Receive, Scope, Send, read_body, send_answer, send_chunk, send_start
from support.eventually import eventually


async def _echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(scope, receive, 1 << 20)
    asked = {name.decode(): value.decode() for name, value in scope["headers"]}
    await send_answer(send, 201, json.dumps([scope["path"], asked, body.decode()]).encode())


async def test_a_whole_answer() -> None:
    answer = await post_to_app(_echo, "/v1/x", b"{}", [(b"accept", b"*/*")])
    headers = {"accept": "*/*", "content-type": "application/json", "content-length": "2"}
    assert answer.status == 201
    assert dict(answer.raw_headers)[b"content-type"] == b"application/json"
    assert json.loads(await read_whole(answer)) == ["/v1/x", headers, "{}"]


async def test_a_stream_comes_as_it_is_sent() -> None:
    go_on = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_start(send, 200, [])
        await send_chunk(send, b"one", more=True)
        await go_on.wait()
        await send_chunk(send, b"two", more=False)

    answer = await post_to_app(app, "/", b"", [])
    assert await answer.readany() == b"one"
    go_on.set()
    assert await answer.readany() == b"two"
    assert await answer.readany() == b""


async def test_a_reader_that_leaves_cancels_the_application() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send_start(send, 200, [])
        try:
            seen.append((await receive())["type"])
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    answer = await post_to_app(app, "/", b"", [])
    answer.close()

    async def ended() -> bool:
        return bool(seen)

    await eventually(ended)
    assert seen == ["cancelled"]
    with pytest.raises(ConnectionResetError):
        await answer.readany()


async def test_one_who_leaves_before_the_head_cancels_it_too() -> None:
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    asking = asyncio.create_task(post_to_app(app, "/", b"", []))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    async with asyncio.timeout(5):
        await left.wait()


async def test_a_failure_before_the_head_and_one_after_it() -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("no")

    async def breaks_off(scope: Scope, receive: Receive, send: Send) -> None:
        await send_start(send, 200, [])
        await send_chunk(send, b"some", more=True)

    with pytest.raises(ConnectionResetError):
        await post_to_app(fails, "/", b"", [])
    answer = await post_to_app(breaks_off, "/", b"", [])
    assert await answer.readany() == b"some"
    with pytest.raises(ConnectionResetError):
        await answer.readany()


async def test_an_application_waits_for_a_slow_reader() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send_start(send, 200, [])
        for _ in range(64):
            await send_chunk(send, bytes(64 * 1024), more=True)
            sent += 1
        await send_chunk(send, b"", more=False)

    answer = await post_to_app(app, "/", b"", [])
    for _ in range(200):
        await asyncio.sleep(0)
    assert sent < 10
    assert len(await read_whole(answer)) == 64 * 64 * 1024
