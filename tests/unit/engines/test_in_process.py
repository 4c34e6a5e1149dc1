"""An application that is called in the same process: whole answers, streams, failures, and readers that leave."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from hybridroute_serve.engines import in_process
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


async def test_a_reader_that_leaves_is_told_to_the_application() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send_start(send, 200, [])
        seen.append((await receive())["type"])
        # What it still sends reaches nobody.
        await send_chunk(send, bytes(1 << 20), more=True)
        await send_chunk(send, bytes(1 << 20), more=False)
        seen.append("ended")

    answer = await post_to_app(app, "/", b"", [])
    answer.close()

    async def ended() -> bool:
        return seen == ["http.disconnect", "ended"]

    await eventually(ended)


async def test_one_who_leaves_before_the_head_is_told_too() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append("asked")
        seen.append((await receive())["type"])

    asking = asyncio.create_task(post_to_app(app, "/", b"", []))

    async def asked() -> bool:
        return seen == ["asked"]

    async def told() -> bool:
        return seen == ["asked", "http.disconnect"]

    await eventually(asked)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await eventually(told)


async def test_an_application_that_does_not_listen_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_process, "_GRACE_SECONDS", 0.01)
    cancelled = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_start(send, 200, [])
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    answer = await post_to_app(app, "/", b"", [])
    answer.close()
    async with asyncio.timeout(5):
        await cancelled.wait()
    with pytest.raises(ConnectionResetError):
        await answer.readany()


@pytest.mark.parametrize("stream", [True, False])
async def test_work_in_a_further_task_ends_when_its_client_leaves(stream: bool) -> None:
    """Answers as vLLM does: by a stream of Starlette's, or in a task beside one that listens."""
    worked, freed = asyncio.Event(), asyncio.Event()

    async def work() -> AsyncIterator[bytes]:
        worked.set()
        try:
            yield b"begun"
            await asyncio.Event().wait()
        finally:
            freed.set()

    async def answer_whole() -> bytes:
        return b"".join([chunk async for chunk in work()])

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        if stream:
            await StreamingResponse(work())(scope, receive, send)
            return
        working = asyncio.create_task(answer_whole())
        listening = asyncio.create_task(request.receive())
        _, pending = await asyncio.wait({working, listening}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    asking = asyncio.create_task(post_to_app(app, "/", b"{}", []))
    async with asyncio.timeout(5):
        await worked.wait()
        if stream:
            (await asking).close()
        else:
            asking.cancel()
        await freed.wait()


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
