"""Which headers travel in each direction."""

import pytest

from hybridroute_serve.wire.headers import (
    headers_for_client,
    headers_for_provider,
    headers_from_provider,
    is_internal_token,
)


def names(headers: list[tuple[bytes, bytes]]) -> set[bytes]:
    return {name for name, _ in headers}


CLIENT = [
    (b"Host", b"here"),
    (b"Content-Type", b"application/json"),
    (b"Content-Length", b"2"),
    (b"Authorization", b"Bearer client-key"),
    (b"Cookie", b"a=b"),
    (b"Connection", b"keep-alive, X-Mine"),
    (b"X-Mine", b"1"),
    (b"TE", b"trailers"),
    (b"Upgrade", b"h2c"),
    (b"X-Request-Disconnect-Disabled", b"true"),
    (b"x-request-timeout-seconds", b"1"),
    (b"X-HybridRoute-Internal-Token", b"guess"),
    (b"x-hybridroute-gate", b"forced"),
    (b"traceparent", b"00-1-2-01"),
    (b"x-custom", b"stays at the router"),
]


def test_neither_path_nor_provider_gets_what_steers_or_identifies() -> None:
    assert names(headers_for_provider(CLIENT)) == {b"content-type", b"traceparent"}


def test_a_header_named_in_connection_does_not_reach_a_provider() -> None:
    headers = [(b"connection", b"traceparent"), (b"traceparent", b"00-1-2-01")]

    assert headers_for_provider(headers) == []


def test_what_comes_back_from_a_provider() -> None:
    provider = [
        (b"Content-Type", b"application/json"),
        (b"Set-Cookie", b"__cf_bm=1"),
        (b"Server", b"cloudflare"),
        (b"X-Request-Id", b"req_1"),
        (b"OpenAI-Processing-Ms", b"12"),
        (b"x-ratelimit-remaining-requests", b"9"),
        (b"Retry-After", b"3"),
        (b"Content-Encoding", b"gzip"),
        (b"Transfer-Encoding", b"chunked"),
        (b"x-hybridroute-failure", b"ok"),
    ]

    assert dict(headers_from_provider(provider)) == {
        b"content-type": b"application/json",
        b"x-hybridroute-upstream-request-id": b"req_1",
        b"openai-processing-ms": b"12",
        b"x-ratelimit-remaining-requests": b"9",
        b"retry-after": b"3",
    }


def test_internal_headers_stay_inside() -> None:
    path = [
        (b"content-type", b"text/event-stream"),
        (b"x-hybridroute-upstream", b"primary"),
        (b"x-hybridroute-failure", b"timeout"),
        (b"x-hybridroute-cost-nano-usd", b"1"),
        (b"keep-alive", b"timeout=5"),
        (b"server", b"uvicorn"),
        (b"retry-after", b"1"),
    ]

    assert names(headers_for_client(path)) == {b"content-type", b"x-hybridroute-upstream", b"retry-after"}


@pytest.mark.parametrize(
    ("presented", "expected", "admitted"),
    [
        ("secret", "secret", True),
        ("secreT", "secret", False),
        ("", "secret", False),
        (None, "secret", False),
        ("", "", False),
        ("sécret", "secret", False),
    ],
)
def test_the_internal_token(presented: str | None, expected: str, admitted: bool) -> None:
    assert is_internal_token(presented, expected) is admitted
