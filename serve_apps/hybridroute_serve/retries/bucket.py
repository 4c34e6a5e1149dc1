"""One replica's retry budget: a token bucket that successes fill and extra attempts empty.

`ratio` tokens come in for each attempt that got through, and the replica's share of the route's floor trickles
in; each *extra* attempt that a failure causes takes its weight out (`attempts.rule_for`). For every interval of
one replica's life:

    weighted extra attempts <= tokens at its start + integral of the floor share + ratio x successes

First attempts, and escalations for quality, take nothing. The share (`shares.ShareBook`) is a lease: past its
expiry, floor and cap are zero, because the keeper may have given them to another replica. Not here: who is
retried, when, and where (`attempts`). Times are seconds of the process's monotonic clock.
"""

from dataclasses import dataclass

__all__ = ["BucketCounters", "BucketShare", "RetryBucket"]


@dataclass(frozen=True, slots=True)
class BucketShare:
    """What the keeper has lent this replica."""

    floor_tokens_per_second: float
    """Tokens that come in by time alone."""
    cap_tokens: float
    """Tokens that the bucket holds at most."""
    expires_at: float
    """This process's monotonic clock: the moment the request for it was *sent*, plus the lease."""


@dataclass(frozen=True, slots=True)
class BucketCounters:
    """Counted since the replica's start, for metrics."""

    deposits: int
    """Attempts that got through."""
    withdrawals: int
    """Extra attempts that were allowed."""
    withdrawn_weight: float
    """Tokens that they took."""
    refusals: int
    """Extra attempts that were refused: the budget was exhausted."""


_NOTHING = BucketShare(floor_tokens_per_second=0.0, cap_tokens=0.0, expires_at=0.0)


class RetryBucket:
    """The bucket of one replica; starts empty and without a share, so that a crash loop mints nothing."""

    __slots__ = (
        "_accrued_at",
        "_deposits",
        "_ratio",
        "_refusals",
        "_share",
        "_tokens",
        "_withdrawals",
        "_withdrawn_weight",
    )

    def __init__(self, *, ratio: float, now: float) -> None:
        self._ratio = ratio
        self._share = _NOTHING
        self._tokens = 0.0
        self._accrued_at = now
        self._deposits = 0
        self._withdrawals = 0
        self._withdrawn_weight = 0.0
        self._refusals = 0

    def tokens(self, now: float) -> float:
        """Return the tokens in hand."""
        self._accrue(now)
        return self._tokens

    def apply_share(self, share: BucketShare, now: float) -> None:
        """Go over to a new share; tokens above its cap are lost."""
        self._accrue(now)
        self._share = share
        self._clamp(now)

    def change_ratio(self, ratio: float) -> None:
        """Set what a success brings in from now on."""
        self._ratio = ratio

    def deposit_success(self, now: float) -> None:
        """Count an attempt that got through. Not for 4xx: these say nothing of the upstream's strength."""
        self._accrue(now)
        self._deposits += 1
        self._tokens += self._ratio
        self._clamp(now)

    def try_withdraw(self, weight: float, now: float) -> bool:
        """Take an extra attempt's weight, or nothing. Ask when it is sent, after its wait, not when planned."""
        if not weight > 0:
            raise ValueError(f"an extra attempt weighs more than {weight}")
        self._accrue(now)
        if self._tokens < weight:
            self._refusals += 1
            return False
        self._tokens -= weight
        self._withdrawals += 1
        self._withdrawn_weight += weight
        return True

    def counters(self) -> BucketCounters:
        """Return what was counted since the start."""
        return BucketCounters(
            deposits=self._deposits,
            withdrawals=self._withdrawals,
            withdrawn_weight=self._withdrawn_weight,
            refusals=self._refusals,
        )

    def _accrue(self, now: float) -> None:
        # A clock that stands still or steps back brings nothing in, and is not paid for again later.
        elapsed_seconds = now - self._accrued_at
        if elapsed_seconds > 0.0:
            self._tokens += self._share.floor_tokens_per_second * elapsed_seconds
            self._accrued_at += elapsed_seconds
        self._clamp(self._accrued_at)

    def _clamp(self, now: float) -> None:
        cap_tokens = self._share.cap_tokens if now < self._share.expires_at else 0.0
        self._tokens = min(self._tokens, cap_tokens)
