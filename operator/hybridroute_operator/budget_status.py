"""What a status says of the dollar budget: figures of the window, and whether money is left. Pure.

While the keeper is silent, what it said last stays. Ready and Degraded do not depend on any of it.
"""

from typing import Final

from hybridroute_api.quantities import format_usd
from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, ConditionType, Verdict
from hybridroute_api.v1alpha1.status import StatusBudget
from hybridroute_operator.observation import GatewayState

__all__ = ["decide_budget", "judge_budget", "total_spent_nano_usd"]

_PARTS: Final = 100
"""A budget is exhausted when less than one of so many parts is left: the most that a replica's lease holds."""

_LASTING: Final = frozenset(
    {ConditionReason.WITHIN_BUDGET, ConditionReason.BUDGET_EXHAUSTED, ConditionReason.PAST_UNKNOWN}
)


def judge_budget(
    route: HybridRoute, gateway: GatewayState | None, previous: HybridRouteStatus | None
) -> tuple[Verdict, str]:
    """Return the verdict of BudgetAvailable and its words for people."""
    if route.spec.budget is None:
        return Verdict(ConditionStatus.TRUE, ConditionReason.NOT_BUDGETED), ""
    state = gateway.budget if gateway else None
    if state is None:
        return _said_before(previous)
    resets = f"money comes back at {state.resets_at:%Y-%m-%dT%H:%M:%SZ}"
    if state.past_unknown:
        lost = f"the ledger was lost, so what was spent before is not known and counts as all; {resets}"
        return Verdict(ConditionStatus.FALSE, ConditionReason.PAST_UNKNOWN), lost
    left = state.limit_nano_usd - state.spent_nano_usd
    if left <= 0 or left * _PARTS < state.limit_nano_usd:
        spent, limit = format_usd(state.spent_nano_usd), format_usd(state.limit_nano_usd)
        told = f"USD {spent} of {limit} are spent; {resets}"
        return Verdict(ConditionStatus.FALSE, ConditionReason.BUDGET_EXHAUSTED), told
    return Verdict(ConditionStatus.TRUE, ConditionReason.WITHIN_BUDGET), ""


def decide_budget(
    route: HybridRoute, gateway: GatewayState | None, previous: HybridRouteStatus | None
) -> StatusBudget | None:
    """Return the window's figures; None without a budget, or before the keeper has said them once."""
    if route.spec.budget is None:
        return None
    state = gateway.budget if gateway else None
    if state is None:
        return previous.budget if previous else None
    return StatusBudget.model_validate(
        {
            "limitUSD": format_usd(state.limit_nano_usd),
            "spentUSD": format_usd(state.spent_nano_usd),
            "reservedUSD": format_usd(state.reserved_nano_usd),
            "resetsAt": state.resets_at if state.spent_nano_usd or state.past_unknown else None,
        }
    )


def total_spent_nano_usd(
    budget: StatusBudget | None, gateway: GatewayState | None, previous: HybridRouteStatus | None
) -> int | None:
    """Return what counts against the limit, or, without a budget, what both paths cost; None if nobody knows."""
    if budget is not None:
        return budget.spent_nano_usd
    if gateway is None:
        return previous.spent_nano_usd if previous else None
    return gateway.slm_nano_usd + gateway.slm_idle_nano_usd + gateway.llm_nano_usd


def _said_before(previous: HybridRouteStatus | None) -> tuple[Verdict, str]:
    for condition in previous.conditions if previous else ():
        if condition.type is ConditionType.BUDGET_AVAILABLE and condition.reason in _LASTING:
            return Verdict(condition.status, ConditionReason(condition.reason)), condition.message
    return Verdict(ConditionStatus.UNKNOWN, ConditionReason.STARTING), ""
