"""Which headers travel on, in each of the four directions. Pure.

Towards a provider and back from it, lists say what may pass: everything else stays here, so a client's key or
cookie never reaches a provider, and a provider's cookies never reach a client. The router lets no more through to a
path than the path would to a provider: neither headers that steer Serve, nor so many that the ingress between them
refuses the request. Towards the client, a list says what may not pass.
"""

import hmac
from collections.abc import Iterable

from hybridroute_api.vocabulary import Header, InternalHeader

__all__ = [
    "headers_for_client",
    "headers_for_provider",
    "headers_from_provider",
    "is_internal_token",
    "own_headers",
]

RawHeaders = Iterable[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

_FOR_PROVIDER = frozenset(
    {b"accept", b"content-type", b"idempotency-key", b"openai-beta", b"traceparent", b"tracestate"}
)

_FROM_PROVIDER = frozenset({b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry"})
_FROM_PROVIDER_PREFIXES = (b"openai-", b"x-ratelimit-")

_OWN_PREFIX = b"x-hybridroute-"

_NOT_FOR_CLIENT = HOP_BY_HOP | {
    b"date",
    b"server",
    b"set-cookie",
    b"x-request-id",  # the router names its answers itself
    InternalHeader.FAILURE.encode(),
    InternalHeader.COST_NANO_USD.encode(),
    InternalHeader.CASCADE_MARGIN.encode(),
    InternalHeader.TOKEN.encode(),
}


def headers_for_provider(request_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return what of a request's headers goes on to a path and from there to a provider.

    The router adds internal ones, the llm-proxy credentials and extra headers.
    """
    headers = [(name.lower(), value) for name, value in request_headers]
    dropped = _named_in_connection(headers)
    return [(name, value) for name, value in headers if name in _FOR_PROVIDER and name not in dropped]


def headers_from_provider(provider_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return what of a provider's headers comes back; its request id gets a name of its own."""
    headers = [(name.lower(), value) for name, value in provider_headers]
    dropped = _named_in_connection(headers)
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        if name in dropped:
            continue
        if name in _FROM_PROVIDER or name.startswith(_FROM_PROVIDER_PREFIXES):
            kept.append((name, value))
        elif name == b"x-request-id":
            kept.append((Header.UPSTREAM_REQUEST_ID.encode(), value))
    return kept


def headers_for_client(path_headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Return what of a path's answer the router hands to the client."""
    headers = [(name.lower(), value) for name, value in path_headers]
    dropped = _NOT_FOR_CLIENT | _named_in_connection(headers)
    return [(name, value) for name, value in headers if name not in dropped]


def own_headers(request_headers: RawHeaders) -> dict[str, str]:
    """Return what the route itself says in a request between its applications, by `InternalHeader`'s names."""
    return {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in request_headers
        if name.startswith(_OWN_PREFIX)
    }


def is_internal_token(presented: str | None, expected: str) -> bool:
    """Compare in constant time. An empty expected token admits nobody."""
    if presented is None or not expected:
        return False
    return hmac.compare_digest(presented.encode(), expected.encode())


def _named_in_connection(headers: list[tuple[bytes, bytes]]) -> frozenset[bytes]:
    names: set[bytes] = set()
    for name, value in headers:
        if name == b"connection":
            names.update(token.strip().lower() for token in value.split(b","))
    return frozenset(names)
