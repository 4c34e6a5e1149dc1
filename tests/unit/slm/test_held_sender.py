"""Whatever blocks a stream comes in, and however much of it is held, what leaves is the same."""

import json
import math
from collections.abc import MutableMapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.vocabulary import InternalHeader, Outcome
from hybridroute_serve.slm.cascade import HeldSender, MarginTally

DONE = b"data: [DONE]\n\n"


def _event(document: Any) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def _chunk(text: str, logprobs: Any = None) -> dict[str, Any]:
    choice: dict[str, Any] = {"finish_reason": None, "index": 0, "delta": {"content": text}}
    return {"choices": [choice if logprobs is None else choice | {"logprobs": logprobs}], "model": "m"}


def _told(margin: float) -> dict[str, Any]:
    high, low = math.log(0.5 + margin / 2), math.log(max(1e-9, 0.5 - margin / 2))
    return {"content": [{"token": "t", "top_logprobs": [{"logprob": high}, {"logprob": low}]}]}


class Client:
    def __init__(self) -> None:
        self.messages: list[MutableMapping[str, Any]] = []

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


async def _send(
    events: list[bytes], cuts: list[int], tokens: int, *, hide: bool = True
) -> tuple[Client, list[int]]:
    """Send events in blocks; return the client, and how many messages it had after each block."""
    client = Client()
    sender = HeldSender(client, MarginTally(tokens), stream=True, hide=hide, bare=None)
    await sender({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]})
    seen = []
    borders = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    for begin, end in pairwise(borders):
        block = b"".join(events[begin:end])
        await sender({"type": "http.response.body", "body": block, "more_body": True})
        seen.append(len(client.messages))
    await sender({"type": "http.response.body", "body": b"", "more_body": False})
    return client, seen


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=5), st.floats(0.0, 1.0)), min_size=1, max_size=30),
    st.lists(st.integers(0, 1000), max_size=10),
    st.integers(1, 40),
)
async def test_what_leaves_is_the_stream_without_its_logprobs(
    pieces: list[tuple[str, float]], cuts: list[int], tokens: int
) -> None:
    role = _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]})
    events = [role, *(_event(_chunk(text, _told(margin))) for text, margin in pieces), DONE]
    plain = b"".join([role, *(_event(_chunk(text)) for text, _ in pieces), DONE])
    client, _ = await _send(events, cuts, tokens)
    assert client.body == plain
    assert [message["type"] for message in client.messages].count("http.response.start") == 1
    assert [message.get("more_body", True) for message in client.messages].count(False) == 1
    said, counted = client.headers[InternalHeader.CASCADE_MARGIN.encode()].split()
    looked_at = [margin for _, margin in pieces][:tokens]
    assert int(counted) == len(looked_at)
    assert float(said) == pytest.approx(sum(looked_at) / len(looked_at), abs=1e-6)


@given(st.integers(1, 30), st.integers(1, 40))
async def test_nothing_leaves_before_the_last_token_that_is_held(count: int, tokens: int) -> None:
    events = [_event(_chunk("a", _told(0.5))) for _ in range(count)]
    client, seen = await _send(events, list(range(count)), tokens)
    assert [messages > 0 for messages in seen] == [number >= tokens for number in range(1, count + 1)]
    assert len(client.messages) >= 2


async def test_logprobs_that_were_asked_for_leave_with_the_stream() -> None:
    events = [_event(_chunk("a", _told(0.5))), DONE]
    client, _ = await _send(events, [], 1, hide=False)
    assert client.body == b"".join(events)


@pytest.mark.parametrize(
    ("code", "status", "outcome"),
    [
        ("stream_cut", 503, Outcome.UPSTREAM_ERROR),
        ("timeout", 504, Outcome.TIMEOUT),
        (500, 503, Outcome.UPSTREAM_ERROR),
    ],
)
@pytest.mark.parametrize("tokens", [1, 9])
async def test_an_error_while_it_is_held_becomes_a_failure(
    code: str | int, status: int, outcome: Outcome, tokens: int
) -> None:
    error = {"error": {"message": "x", "code": code}}
    client, _ = await _send([_event(_chunk("a", _told(0.5))), _event(error)], [], tokens)
    assert client.messages[0]["status"] == status
    assert [message.get("more_body", True) for message in client.messages].count(False) == 1
    assert client.headers[InternalHeader.FAILURE.encode()] == outcome.encode()
    assert b'"a"' not in client.body


async def test_an_error_of_the_application_passes() -> None:
    client = Client()
    sender = HeldSender(client, MarginTally(4), stream=False, hide=True, bare=None)
    await sender({"type": "http.response.start", "status": 400, "headers": []})
    await sender({"type": "http.response.body", "body": b'{"error":{}}', "more_body": False})
    assert client.body == b'{"error":{}}'
    assert client.messages[0]["status"] == 400
