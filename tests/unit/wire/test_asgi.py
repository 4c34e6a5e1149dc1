"""Bodies with a limit, and answers."""

from collections.abc import Iterator, MutableMapping
from typing import Any

import pytest

from hybridroute_serve.wire.asgi import (
    BodyTooLargeError,
    ClientDisconnectedError,
    Receive,
    read_body,
    send_error,
)
from hybridroute_serve.wire.errors import body_too_large, error_event, starting

Message = MutableMapping[str, Any]


def scope(**headers: str) -> MutableMapping[str, Any]:
    return {"headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]}


def receiving(*chunks: bytes | None) -> tuple[Receive, Iterator[bytes | None]]:
    """Receive the chunks; None is a disconnect. The iterator shows what has not been read."""
    remaining = iter(chunks)
    count = len(chunks)

    async def receive() -> Message:
        nonlocal count
        chunk = next(remaining)
        count -= 1
        if chunk is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunk, "more_body": count > 0}

    return receive, remaining


async def test_a_body_in_pieces() -> None:
    receive, _ = receiving(b"ab", b"", b"c")

    assert await read_body(scope(), receive, 3) == b"abc"


async def test_an_empty_body() -> None:
    receive, _ = receiving(b"")

    assert await read_body(scope(), receive, 3) == b""


async def test_a_huge_declared_length_is_refused_unread() -> None:
    receive, remaining = receiving(b"abcd")

    with pytest.raises(BodyTooLargeError):
        await read_body(scope(content_length=str(1 << 40)), receive, 3)

    assert list(remaining) == [b"abcd"]


async def test_the_rest_of_a_long_body_is_read_so_that_its_sender_sees_the_answer() -> None:
    for length in (None, "6"):
        receive, remaining = receiving(b"ab", b"cd", b"ef")

        with pytest.raises(BodyTooLargeError):
            await read_body(scope(content_length=length) if length else scope(), receive, 3)

        assert list(remaining) == []


async def test_the_rest_is_not_read_for_ever() -> None:
    mebibyte = bytes(1 << 20)
    receive, remaining = receiving(*[mebibyte] * 100)

    with pytest.raises(BodyTooLargeError):
        await read_body(scope(), receive, 3)

    assert 30 < len(list(remaining)) < 40


async def test_a_lying_length_is_counted() -> None:
    receive, _ = receiving(b"abcd")

    with pytest.raises(BodyTooLargeError):
        await read_body(scope(content_length="1"), receive, 3)


async def test_a_client_that_leaves_while_it_sends() -> None:
    receive, _ = receiving(b"ab", None)

    with pytest.raises(ClientDisconnectedError):
        await read_body(scope(), receive, 3)


async def test_errors_have_openais_shape() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_error(send, starting(), [(b"x-extra", b"1")])

    assert sent[0]["status"] == 503
    assert set(sent[0]["headers"]) >= {
        (b"content-type", b"application/json"),
        (b"retry-after", b"1"),
        (b"x-extra", b"1"),
    }
    assert sent[1]["body"] == (
        b'{"error":{"message":"The service is starting.","type":"server_error","param":null,"code":"starting"}}'
    )
    assert not sent[1]["more_body"]


def test_a_refused_body_ends_its_connection() -> None:
    assert (b"connection", b"close") in body_too_large(5).headers


def test_an_error_event_is_one_event() -> None:
    assert error_event("a\nb", "stream_cut") == (
        b'data: {"error":{"message":"a\\nb","type":"server_error","param":null,"code":"stream_cut"}}\n\n'
    )
