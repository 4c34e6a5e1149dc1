"""Dollars of one attempt: its upper bound is reserved before it is sent, and settled by what it used.

What no usage was seen of counts in full, unless the upstream never got the request or refused it. The accounts are
`keeper.budget_client.DollarAccounts`; the answers to a request that is not affordable, or has no bound, are made here.
"""

from functools import lru_cache
from typing import Protocol

from hybridroute_api.serving import Upstream
from hybridroute_api.vocabulary import Outcome, UsageSource
from hybridroute_serve.budgets.bounds import BoundTerms, Unbounded, bound_request
from hybridroute_serve.keeper.budget_client import Denied, DeniedReason, Reservation
from hybridroute_serve.upstream.attempt import RelayRequest
from hybridroute_serve.upstream.books import AttemptEnd
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.wire.errors import budget_exhausted, unbounded_cost

__all__ = ["AttemptAccounts", "judge_bill", "reserve_attempt"]

_GATEWAY_TIMEOUTS = frozenset({504, 524})
"""Something between gave up waiting: the upstream behind it may go on, and bill."""


class AttemptAccounts(Protocol):
    """Where attempts are paid from; `keeper.budget_client.DollarAccounts` is one."""

    def is_budgeted(self, client: str | None) -> bool:
        """Say whether this client's attempts are paid from any account."""

    async def reserve(self, attempt_id: str, client: str | None, nano_usd: int) -> Reservation | Denied:
        """Reserve an attempt's upper bound."""

    def is_valid(self, reservation: Reservation) -> bool:
        """Say whether the attempt may still be sent."""

    def settle(self, reservation: Reservation, billed_nano_usd: int | None) -> int:
        """End it with what was billed, None for unknown; return what counts."""

    def release(self, reservation: Reservation) -> None:
        """End one whose attempt was never sent."""


async def reserve_attempt(
    accounts: AttemptAccounts,
    request: RelayRequest,
    upstream: Upstream,
    *,
    attempt_id: str,
    client: str | None,
    now_unix: float,
) -> Reservation | AttemptFailure:
    """Reserve the most that this attempt can cost, or say why it is not sent."""
    terms = _terms(upstream.max_output_tokens)
    bound = bound_request(request.body, request.parsed.api, upstream.prices, terms)
    if isinstance(bound, Unbounded):
        answer = unbounded_cost(bound.parameter, bound.reason)
        return AttemptFailure(Outcome.REJECTED, answer, f"unbounded: {bound.parameter}")
    answered = await accounts.reserve(attempt_id, client, bound.nano_usd)
    return answered if isinstance(answered, Reservation) else _refuse(answered, now_unix)


@lru_cache
def _terms(output_cap_tokens: int) -> BoundTerms:
    return BoundTerms(output_cap_tokens=output_cap_tokens)


def judge_bill(end: AttemptEnd) -> int | None:
    """Return what an attempt that was sent is billed, nano-USD; None when nobody knows."""
    if end.usage.source is UsageSource.REPORTED:
        return end.cost_nano_usd
    refused = (
        end.usage.source is UsageSource.NONE
        and end.status is not None
        and not 200 <= end.status < 300
        and end.status not in _GATEWAY_TIMEOUTS
    )
    return 0 if refused else None


def _refuse(denied: Denied, now_unix: float) -> AttemptFailure:
    whose = "of this API key" if denied.account.startswith("client:") else "of this service"
    if denied.reason is DeniedReason.EXHAUSTED:
        message = f"The dollar budget {whose} does not bear the request."
    else:
        message = f"The dollar budget {whose} cannot be spent now: {denied.reason.replace('_', ' ')}."
    answer = budget_exhausted(message, resets_at=denied.resets_at, now_unix=now_unix)
    return AttemptFailure(Outcome.UNAFFORDABLE, answer, f"{denied.account} {denied.reason}")
