"""Bodies on their way to an upstream: sent whole, and noted when they go out."""

import aiohttp
import pytest

from hybridroute_serve.upstream.bodies import as_payload
from support.upstream import ScriptedUpstream, answer_json, chat_answer, closed_port


@pytest.mark.parametrize("size_bytes", [0, 10, 1024 * 1024, 1024 * 1024 + 1, 5 * 1024 * 1024])
async def test_a_body_is_noted_once_and_arrives_whole(upstream: ScriptedUpstream, size_bytes: int) -> None:
    upstream.default = answer_json(chat_answer())
    noted: list[int] = []
    body = b"x" * size_bytes
    async with aiohttp.ClientSession() as session:
        payload = as_payload(body, lambda: noted.append(upstream.attempts))
        async with session.post(f"{upstream.base_url}/chat/completions", data=payload) as answer:
            assert answer.status == 200
    assert noted == [0], "before the upstream has it"
    assert upstream.requests[0].body == body


async def test_a_body_that_finds_no_connection_is_not_noted() -> None:
    noted: list[int] = []
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.post(
                f"http://127.0.0.1:{closed_port()}/", data=as_payload(b"x", lambda: noted.append(1))
            )
    assert noted == []
