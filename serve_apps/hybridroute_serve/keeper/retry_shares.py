"""The route's retry budget, lent to llm-proxy replicas: `retries.shares` with a clock, a policy and a fence.

Shares live in memory. After a restart nobody knows what is out, so the first lease and its margin pass before
anything but what replicas say they hold is lent again; a keeper that was replaced lends nothing (`app` asks first).
With each share goes what the other replicas have seen of upstreams (`retries.sightings`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from hybridroute_api.serving import RetryPolicy
from hybridroute_serve.keeper.budget_messages import ShareAnswer, ShareCall
from hybridroute_serve.retries.shares import Share, ShareBook, ShareTerms
from hybridroute_serve.retries.sightings import SightingBoard

__all__ = ["LentShares", "RetryShares"]


@dataclass(frozen=True, slots=True)
class LentShares:
    """What is out now, for status and metrics."""

    tokens: float
    """Sum of the caps that replicas may hold."""
    floor_tokens_per_second: float
    members: tuple[str, ...]


class RetryShares:
    """Lends shares in one epoch of the keeper."""

    def __init__(
        self, *, epoch: int, monotonic: Callable[[], float], terms: ShareTerms | None = None
    ) -> None:
        self._monotonic = monotonic
        terms = terms or ShareTerms()
        was_another_before = epoch > 1
        self._book = ShareBook(
            Share(0.0, 0.0),
            terms,
            epoch=epoch,
            now=monotonic(),
            quarantine_seconds=terms.lease_seconds + terms.margin_seconds if was_another_before else 0.0,
        )
        self._board = SightingBoard(terms.lease_seconds)

    def follow(self, policy: RetryPolicy) -> None:
        """Take the live policy's totals; replicas shrink or grow as they ask again."""
        self._book.change_totals(Share(policy.floor_tokens_per_second, policy.burst_tokens))

    def renew(self, call: ShareCall) -> ShareAnswer | None:
        """Lend a replica its part; None for a request that a later one has overtaken."""
        now, replica = self._monotonic(), call.share.replica
        grant = self._book.renew(call.share, now)
        if grant is None:
            return None
        self._board.note(replica, call.sightings, now)
        return ShareAnswer(grant, self._board.down_for(replica, now))

    def leave(self, replica: str) -> None:
        """Take back the share of a replica that has stopped."""
        self._book.leave(replica)
        self._board.forget(replica)

    def lent(self) -> LentShares:
        """Return what is out."""
        self._book.expire(self._monotonic())
        share = self._book.lent()
        return LentShares(share.cap_tokens, share.floor_tokens_per_second, self._book.members())
