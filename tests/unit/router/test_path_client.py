"""What the router makes of a path that it cannot even connect to."""

from typing import Any, cast

import aiohttp
import pytest

from hybridroute_api.vocabulary import Outcome, PathName
from hybridroute_serve.router.path_client import PathClient, PathFailure


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
    client = PathClient(session, dict.fromkeys(PathName, "http://path"), "token")
    async with client.send_request(
        PathName.LLM, "/v1/completions", b"{}", [], internal={}, stream=False, first_byte_seconds=5.0
    ) as answer:
        assert isinstance(answer, PathFailure)
        assert (answer.outcome, answer.status) == (outcome, status)
