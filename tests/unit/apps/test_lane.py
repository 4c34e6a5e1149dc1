"""Requests past Serve's wrapper: which, counted how, and ended when their client leaves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from ray.serve._private.http_util import RequestIdMiddleware
from ray.serve._private.replica import Replica

from hybridroute_serve.apps import lane
from hybridroute_serve.apps.lane import LaneMiddleware, make_middlewares, open_lane
from hybridroute_serve.wire.asgi import (
    ASGIApp,
    Receive,
    Scope,
    Send,
    read_body,
    send_answer,
    send_chunk,
    send_start,
)
from support.own_server import serving


class ServesReplica:
    """What the lane uses of Serve's replica, and what Serve would answer."""

    def __init__(self, prefix: str | None = "/llm") -> None:
        self._route_prefix = prefix
        self.ongoing = 0
        self.counted = 0
        self.idle = asyncio.Event()

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send_answer(send, 200, b"serve")

    @asynccontextmanager
    async def _start_request(self, request_metadata: Any) -> AsyncIterator[None]:
        assert request_metadata.is_direct_ingress
        self.ongoing += 1
        self.counted += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.ongoing -= 1
            self.idle.set()


@pytest.fixture(autouse=True)
def nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane._Lane, "app", None)
    monkeypatch.setattr(lane._Lane, "loop", None)


@asynccontextmanager
async def asked(
    serve: Any, app: ASGIApp | None
) -> AsyncIterator[Callable[..., Awaitable[tuple[int, bytes]]]]:
    """Serve as a replica does, the application behind the lane if there is one; gives a client."""
    if app is not None:
        open_lane(app)
    async with (
        serving(LaneMiddleware(RequestIdMiddleware(serve))) as port,
        aiohttp.ClientSession() as session,
    ):

        async def ask(path: str, body: bytes = b"", **more: Any) -> tuple[int, bytes]:
            async with session.post(f"http://127.0.0.1:{port}{path}", data=body, **more) as answer:
                return answer.status, await answer.read()

        yield ask


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await read_body(scope, receive, 1000)
    await send_answer(send, 200, b"|".join((scope["root_path"].encode(), scope["path"].encode(), body)))


@pytest.mark.parametrize(
    ("prefix", "path", "answered"),
    [
        ("/llm", "/llm/v1/models", b"/llm|/llm/v1/models|hello"),
        ("/", "/v1/models", b"|/v1/models|hello"),
        (None, "/v1/models", b"|/v1/models|hello"),
        ("/llm", "/-/healthz", b"serve"),
        ("/", "/-/routes", b"serve"),
        ("/llm", "/slm/v1/models", b"serve"),
    ],
)
async def test_the_application_gets_what_is_below_its_prefix_and_serve_the_rest(prefix, path, answered):
    replica = ServesReplica(prefix)
    async with asked(replica.answer, echo) as ask:
        assert await ask(path, b"hello") == (200, answered)
    assert replica.counted == (answered != b"serve")
    assert replica.ongoing == 0


async def test_serve_answers_until_an_application_is_there_and_where_its_replica_is_not_known():
    async with asked(ServesReplica().answer, None) as ask:
        assert await ask("/llm/v1/models") == (200, b"serve")

    async def other(scope: Scope, receive: Receive, send: Send) -> None:
        await ServesReplica().answer(scope, receive, send)

    async with asked(other, echo) as ask:
        assert await ask("/llm/v1/models") == (200, b"serve")


async def test_an_application_of_another_loop_is_left_to_serve():
    def open_elsewhere() -> None:
        async def run() -> None:
            open_lane(echo)

        asyncio.run(run())

    await asyncio.to_thread(open_elsewhere)
    async with asked(ServesReplica().answer, None) as ask:
        assert await ask("/llm/v1/models") == (200, b"serve")


@pytest.mark.parametrize("body_bytes", [10, 100_000, 2_000_000])
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_request_ends_when_its_client_leaves_and_is_counted_until_then(streaming, body_bytes):
    replica, whole, ended = ServesReplica(), asyncio.Event(), asyncio.Event()

    async def hang(scope: Scope, receive: Receive, send: Send) -> None:
        assert len(await read_body(scope, receive, 10_000_000)) == body_bytes
        if streaming:
            await send_start(send, 200, [])
            await send_chunk(send, b"first", more=True)
        whole.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            assert replica.ongoing == 1
            ended.set()
            raise

    open_lane(hang)
    async with serving(LaneMiddleware(RequestIdMiddleware(replica.answer))) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /llm/x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % body_bytes)
        # Apart from its head, as most clients send it: the application waits for it by then.
        await asyncio.sleep(0.05)
        writer.write(b"x" * body_bytes)
        async with asyncio.timeout(5):
            await whole.wait()
            writer.close()
            await ended.wait()
            await replica.idle.wait()
    assert replica.ongoing == 0


async def test_what_follows_a_whole_answer_is_not_cut_short_by_a_client_that_is_done():
    replica, finished = ServesReplica(), asyncio.Event()

    async def tidy(scope: Scope, receive: Receive, send: Send) -> None:
        await echo(scope, receive, send)
        await asyncio.sleep(0.1)
        finished.set()

    async with asked(replica.answer, tidy) as ask:
        status, _ = await ask("/llm/x", headers={"connection": "close"})
        assert status == 200
        async with asyncio.timeout(5):
            await finished.wait()


@pytest.mark.parametrize("defect", [RuntimeError("late"), asyncio.CancelledError()])
async def test_a_defect_after_a_whole_answer_leaves_the_connections_next_request_alone(defect):
    async def fail_late(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("second"):
            await asyncio.sleep(0.2)
            await echo(scope, receive, send)
            return
        await echo(scope, receive, send)
        await asyncio.sleep(0.1)
        raise defect

    async with asked(ServesReplica().answer, fail_late) as ask:
        assert (await ask("/llm/first"))[0] == 200
        assert await ask("/llm/second", b"b") == (200, b"/llm|/llm/second|b")


async def test_a_defect_is_logged_and_answered(caplog):
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise RuntimeError("a defect")

    replica = ServesReplica()
    async with asked(replica.answer, fail) as ask:
        status, _ = await ask("/llm/x")
    assert status == 500
    assert "a defect" in caplog.text
    assert replica.ongoing == 0


def test_serve_is_built_as_the_lane_expects():
    assert [middleware.cls for middleware in make_middlewares()] == [LaneMiddleware]
    assert callable(Replica._start_request)
    assert "_route_prefix" in Replica.__init__.__code__.co_names
    served = RequestIdMiddleware(ServesReplica.answer)
    assert served._app is ServesReplica.answer
