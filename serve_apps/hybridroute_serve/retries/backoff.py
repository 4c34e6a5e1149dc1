"""How long to wait before an extra attempt: full jitter, and `Retry-After` where the upstream names a time.

Full jitter draws from [0, min(most, base x 2^(k-1))] before the k-th extra attempt, so that requests which
failed together do not come back together. `FullJitter` is a strategy of tenacity's, for any of its loops; the
llm-proxy runs its own (`docs/decisions/0004`). Randomness is an argument; nothing here sleeps.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum

from tenacity import RetryCallState
from tenacity.wait import wait_base

__all__ = ["Backoff", "BackoffClass", "FullJitter", "parse_retry_after"]

_TRANSPORT_BASE_SECONDS = 0.05
_TRANSPORT_MOST_SECONDS = 2.0
_THROTTLING_BASE_SECONDS = 1.0
_THROTTLING_MOST_SECONDS = 20.0
_RETRY_AFTER_JITTER = 0.1
"""Of the named time, on top of it: everybody was told the same second."""


class BackoffClass(StrEnum):
    """What kind of failure is waited out."""

    TRANSPORT = "transport"
    """A broken connection or a 5xx: over soon, if at all."""
    THROTTLING = "throttling"
    """The upstream has asked for less."""


class FullJitter(wait_base):
    """tenacity's strategy with the randomness given: `random()` in [0, 1)."""

    def __init__(self, *, base_seconds: float, most_seconds: float, random: Callable[[], float]) -> None:
        self._base_seconds = base_seconds
        self._most_seconds = most_seconds
        self._random = random

    def __call__(self, retry_state: RetryCallState) -> float:
        """Return the wait after attempt number `retry_state.attempt_number`, seconds."""
        return self.seconds(retry_state.attempt_number)

    def seconds(self, extra_attempt: int) -> float:
        """Return the wait before the k-th extra attempt, k from 1."""
        doublings = min(extra_attempt - 1, 32)
        return self._random() * min(self._most_seconds, self._base_seconds * 2.0**doublings)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits of one replica."""

    random: Callable[[], float]

    def seconds(
        self, kind: BackoffClass, extra_attempt: int, *, retry_after_seconds: float | None = None
    ) -> float:
        """Return the wait before the k-th extra attempt; never less than the upstream asked for."""
        if retry_after_seconds is not None:
            return retry_after_seconds * (1 + _RETRY_AFTER_JITTER * self.random())
        if kind is BackoffClass.THROTTLING:
            base, most = _THROTTLING_BASE_SECONDS, _THROTTLING_MOST_SECONDS
        else:
            base, most = _TRANSPORT_BASE_SECONDS, _TRANSPORT_MOST_SECONDS
        return FullJitter(base_seconds=base, most_seconds=most, random=self.random).seconds(extra_attempt)


def parse_retry_after(value: str | None, now_unix: float) -> float | None:
    """Read a `Retry-After` header: seconds, or an HTTP date. Returns seconds from now, None if unreadable."""
    text = (value or "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return _parse_http_date(text, now_unix)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _parse_http_date(text: str, now_unix: float) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        # An HTTP date is GMT even where the form (asctime) does not say so.
        at = date.timestamp() if date.tzinfo is not None else date.replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return max(0.0, at - now_unix)
