"""What the router makes of a path that it cannot even connect to."""

import asyncio
from typing import Any, cast

import aiohttp
import pytest

from hybridroute_api.vocabulary import Outcome, PathName
from hybridroute_serve.router.path_client import PathClient, PathFailure
from hybridroute_serve.turning_session import TurningSession


class BrokenSession:
    """Fails every request in one way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def post(self, *_: object, **__: object) -> Any:
        raise self._error


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        # Nothing was sent, so it can go elsewhere; an ingress that does not answer is another matter.
        (aiohttp.ConnectionTimeoutError(), Outcome.UPSTREAM_ERROR, 503),
        (aiohttp.ClientOSError(), Outcome.UPSTREAM_ERROR, 503),
        (aiohttp.ServerDisconnectedError(), Outcome.UPSTREAM_ERROR, 503),
        (aiohttp.SocketTimeoutError(), Outcome.TIMEOUT, 504),
        (TimeoutError(), Outcome.TIMEOUT, 504),
    ],
)
async def test_how_it_failed_says_whether_it_can_have_been_sent(
    error: Exception, outcome: Outcome, status: int
) -> None:
    session = cast("aiohttp.ClientSession", BrokenSession(error))
    client = PathClient(TurningSession(lambda: session), dict.fromkeys(PathName, "http://path"), "token")
    async with client.send_request(
        PathName.LLM, "/v1/completions", b"{}", [], internal={}, stream=False, first_byte_seconds=5.0
    ) as answer:
        assert isinstance(answer, PathFailure)
        assert (answer.outcome, answer.status) == (outcome, status)


async def test_a_connection_that_leads_elsewhere_is_not_used_for_ever() -> None:
    """The first connection reaches a stranger as long as it lives, as one to an ingress that was replaced does."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(0)
        stranger = len(connections) == 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                last = b"connection: close" in head.lower()
                status, body = (b"404 Not Found", b"") if stranger else (b"200 OK", b"{}")
                said = b"connection: close\r\n" if last else b""
                writer.write(
                    b"HTTP/1.1 %s\r\n%scontent-length: %d\r\n\r\n%s" % (status, said, len(body), body)
                )
                if last:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        sessions = TurningSession(aiohttp.ClientSession)
        client = PathClient(sessions, dict.fromkeys(PathName, url), "token")
        seen = []
        for _ in range(5):
            async with client.send_request(
                PathName.SLM, "/v1/completions", b"{}", [], internal={}, stream=False, first_byte_seconds=5.0
            ) as answer:
                seen.append(answer.status)
        await sessions.close()
    assert seen == [503, 503, 200, 200, 200]
    assert len(connections) == 3, "the stranger's, one that is not trusted yet, and one that is kept"
