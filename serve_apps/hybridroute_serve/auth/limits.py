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
    level: float
    at: float

    def refill(self, per_minute: float, capacity: float, now: float) -> None:
        level = self.level
        if now > self.at:
            level += (now - self.at) * per_minute / _MINUTE_SECONDS
            self.at = now
        self.level = min(capacity, level)


class RateLimits:
    """The buckets of one router replica."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[str, LimitKind], _Bucket] = {}

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
            part = limit / replicas
            capacity = _capacity(part)
            bucket = self._bucket(client, kind, part, capacity, now)
            left = int(bucket.level * replicas) if bucket.level > 0 else 0
            reset_seconds = (capacity - bucket.level) * _MINUTE_SECONDS / part
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
        part = limit / replicas
        capacity = _capacity(part)
        bucket = self._bucket(client, kind, part, capacity, now)
        needed = min(capacity, asked)
        # A billionth is what floating point loses in a refill.
        if bucket.level < needed - 1e-9:
            return Excess(kind, limit, asked, (needed - bucket.level) * _MINUTE_SECONDS / part)
        bucket.level -= asked
        return None

    def _bucket(self, client: Client, kind: LimitKind, part: float, capacity: float, now: float) -> _Bucket:
        bucket = self._buckets.get((client.name, kind))
        if bucket is None:
            bucket = self._buckets[client.name, kind] = _Bucket(capacity, now)
        bucket.refill(part, capacity, now)
        return bucket


def _capacity(part: float) -> float:
    """What a full bucket holds: one request even where the replica's part of the limit is less."""
    return max(1.0, part)


def _format_reset(seconds: float) -> bytes:
    """Write a duration as OpenAI's headers do, `6m0s` or `0.25s`, rounded up to milliseconds."""
    minutes, milliseconds = divmod(math.ceil(seconds * 1000), 60_000)
    rest = b"%gs" % (milliseconds / 1000)
    return b"%dm%s" % (minutes, rest) if minutes else rest
