"""How often a client may ask: a bucket of requests and one of tokens per client, each refilled within a minute.

The limit is the route's, not a replica's: each of n router replicas gives out an n-th of it, so that scaling the
router does not raise what a client may do. Clients spread over replicas evenly enough for that (the ingress takes
them in turn), and a bucket's burst, a whole minute, takes up what is left. Tokens are counted before they are used:
the estimated prompt and the most that may be answered. One request may take more than a replica's part of the
minute, and then the bucket is in debt; only what is more than the whole limit is never let through.
Pure but for its own buckets; `now` is seconds of a monotonic clock.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from hybridroute_serve.auth.clients import Client

__all__ = ["Excess", "LimitKind", "RateLimits"]

_MINUTE_SECONDS = 60.0


class LimitKind(StrEnum):
    """What is counted, as OpenAI's headers spell it."""

    REQUESTS = "requests"
    TOKENS = "tokens"


_HEADERS: Final = MappingProxyType(
    {
        kind: tuple(f"x-ratelimit-{name}-{kind}".encode() for name in ("limit", "remaining", "reset"))
        for kind in LimitKind
    }
)


@dataclass(frozen=True, slots=True)
class Excess:
    """Why a request is refused."""

    kind: LimitKind
    per_minute: int
    asked: int
    retry_after_seconds: float | None
    """None: the request is larger than the limit, and waiting does not help."""


@dataclass(slots=True)
class _Bucket:
    """One limit of one client, as this replica keeps it."""

    limit: int
    """The route's."""
    replicas: int
    part: float
    """Of the limit, this replica's."""
    capacity: float
    level: float
    at: float

    @classmethod
    def full(cls, limit: int, replicas: int, now: float) -> "_Bucket":
        """Make one: even where the replica's part of the limit is less, it holds one request."""
        part = limit / replicas
        capacity = max(1.0, part)
        return cls(limit, replicas, part, capacity, level=capacity, at=now)


class RateLimits:
    """The buckets of one router replica."""

    def __init__(self) -> None:
        self._buckets: dict[LimitKind, dict[str, _Bucket]] = {kind: {} for kind in LimitKind}

    def admit_request(self, client: Client, now: float, *, replicas: int) -> Excess | None:
        """Count a request. None when it is within the limit."""
        return self._take(
            client, LimitKind.REQUESTS, client.requests_per_minute, 1, now=now, replicas=replicas
        )

    def admit_tokens(self, client: Client, tokens: int, now: float, *, replicas: int) -> Excess | None:
        """Count the tokens of a request. None when they are within the limit."""
        return self._take(
            client, LimitKind.TOKENS, client.tokens_per_minute, tokens, now=now, replicas=replicas
        )

    def headers(self, client: Client, now: float, *, replicas: int) -> list[tuple[bytes, bytes]]:
        """Return OpenAI's `x-ratelimit-*` headers: the limit, what is left of it and when it is whole again.

        What is left is this replica's part times the replicas, which is an estimate with more than one.
        """
        shown: list[tuple[bytes, bytes]] = []
        limits = (
            (LimitKind.REQUESTS, client.requests_per_minute),
            (LimitKind.TOKENS, client.tokens_per_minute),
        )
        for kind, limit in limits:
            if limit is None:
                continue
            bucket = self._bucket(client, kind, limit, replicas, now)
            left = int(bucket.level * replicas) if bucket.level > 0 else 0
            reset_seconds = (bucket.capacity - bucket.level) * _MINUTE_SECONDS / bucket.part
            names = _HEADERS[kind]
            shown.append((names[0], b"%d" % limit))
            shown.append((names[1], b"%d" % (min(limit, left))))
            shown.append((names[2], _format_reset(reset_seconds)))
        return shown

    def _take(
        self, client: Client, kind: LimitKind, limit: int | None, asked: int, *, now: float, replicas: int
    ) -> Excess | None:
        if limit is None:
            return None
        if asked > limit:
            return Excess(kind, limit, asked, None)
        bucket = self._bucket(client, kind, limit, replicas, now)
        needed = min(bucket.capacity, asked)
        # A billionth is what floating point loses in a refill.
        if bucket.level < needed - 1e-9:
            return Excess(kind, limit, asked, (needed - bucket.level) * _MINUTE_SECONDS / bucket.part)
        bucket.level -= asked
        return None

    def _bucket(self, client: Client, kind: LimitKind, limit: int, replicas: int, now: float) -> _Bucket:
        buckets = self._buckets[kind]
        bucket = buckets.get(client.name)
        if bucket is None or bucket.replicas != replicas or bucket.limit != limit:
            before, bucket = bucket, _Bucket.full(limit, replicas, now)
            if before is not None:
                bucket.level, bucket.at = min(bucket.capacity, before.level), before.at
            buckets[client.name] = bucket
        if now > bucket.at:
            level = bucket.level + (now - bucket.at) * bucket.part / _MINUTE_SECONDS
            bucket.level, bucket.at = min(bucket.capacity, level), now
        return bucket


def _format_reset(seconds: float) -> bytes:
    """Write a duration as OpenAI's headers do, `6m0s` or `0.25s`, rounded up to milliseconds."""
    minutes, milliseconds = divmod(math.ceil(seconds * 1000), 60_000)
    rest = b"%gs" % (milliseconds / 1000)
    return b"%dm%s" % (minutes, rest) if minutes else rest
