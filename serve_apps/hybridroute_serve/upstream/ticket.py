"""Leave to make one attempt: its reservation, token and permit, each brought back exactly once."""

from collections.abc import Callable

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.keeper.budget_client import Reservation
from hybridroute_serve.retries.attempts import TIMER_SLACK_SECONDS, AttemptKind, EndedAttempt
from hybridroute_serve.retries.breaker import Permit
from hybridroute_serve.upstream.books import NOTHING_STAKED, AttemptEnd, Stake
from hybridroute_serve.upstream.dollars import AttemptAccounts, judge_bill
from hybridroute_serve.upstream.guard import GuardedUpstream, UpstreamGuard, Upstreams

__all__ = ["AttemptTicket"]


class AttemptTicket:
    """The books of one attempt (`books.AttemptBooks`)."""

    def __init__(
        self,
        *,
        number: int,
        kind: AttemptKind,
        upstream: GuardedUpstream,
        permit: Permit,
        guard: UpstreamGuard,
        upstreams: Upstreams,
        accounts: AttemptAccounts,
        reservation: Reservation | None,
        patience_ends_at: float | None,
        note_end: Callable[[EndedAttempt, AttemptEnd], None],
    ) -> None:
        """`patience_ends_at`: when the caller's deadline comes too soon to blame the upstream; None if it does not."""
        self.number = number
        self.kind = kind
        self.upstream = upstream
        self._permit = permit
        self._guard = guard
        self._upstreams = upstreams
        self._accounts = accounts
        self._reservation = reservation
        self._patience_ends_at = patience_ends_at
        self._note_end = note_end
        self._is_open = True

    def open(self) -> Stake:
        """Name the reservation in the journal, so that it can be settled if this process dies."""
        held = self._reservation
        return NOTHING_STAKED if held is None else Stake(held.nano_usd, held.lease_ids)

    def saw_content(self) -> None:
        """Let a probe pass."""
        self._guard.saw_content(self.upstream, self._permit)

    def close(self, end: AttemptEnd) -> Stake:
        """Settle, teach the guard, and tell the request."""
        self._is_open = False
        self._guard.record(
            self.upstream, self._permit, end, self._upstreams, patience_ended=self._has_lost_patience(end)
        )
        failure = end.failure
        ended = EndedAttempt(
            upstream=self.upstream.config.name,
            kind=self.kind,
            outcome=end.outcome,
            request_sent=end.request_sent,
            content_sent=end.content_sent,
            retry_after_seconds=failure.retry_after_seconds if failure is not None else None,
        )
        self._note_end(ended, end)
        return self._settle(end)

    def abandon(self) -> None:
        """Bring everything back if the attempt was never begun."""
        if not self._is_open:
            return
        self._is_open = False
        self._guard.give_back(self.upstream, self._permit)
        if self._reservation is not None:
            self._accounts.release(self._reservation)

    def _settle(self, end: AttemptEnd) -> Stake:
        held = self._reservation
        if held is None:
            return NOTHING_STAKED
        if end.request_sent:
            settled_nano_usd = self._accounts.settle(held, judge_bill(end))
        else:
            self._accounts.release(held)
            settled_nano_usd = 0
        return Stake(settled_nano_usd, held.lease_ids)

    def _has_lost_patience(self, end: AttemptEnd) -> bool:
        return (
            self._patience_ends_at is not None
            and end.outcome in (Outcome.TIMEOUT, Outcome.CUT)
            and self._guard.clock() >= self._patience_ends_at - TIMER_SLACK_SECONDS
        )
