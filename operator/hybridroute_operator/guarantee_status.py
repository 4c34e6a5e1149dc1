"""What a status says of the promise: the keeper's verdict, and what keeps the policy from it. Pure.

While the keeper is silent, what it said last stays. Ready and Degraded do not depend on any of it.
"""

from typing import Final

from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, ConditionType, Verdict
from hybridroute_operator.observation import GatewayState, Observation
from hybridroute_operator.references import policy_problem

__all__ = ["judge_guarantee"]

_NO_POLICY: Final = Verdict(ConditionStatus.UNKNOWN, ConditionReason.NO_POLICY)
_STARTING: Final = Verdict(ConditionStatus.UNKNOWN, ConditionReason.STARTING)


def judge_guarantee(
    route: HybridRoute, observed: Observation, previous: HybridRouteStatus | None
) -> tuple[Verdict, str]:
    """Return the verdict of GuaranteeValid and its words for people."""
    if route.spec.routing.policy is None:
        return _NO_POLICY, ""
    gateway = observed.gateway
    missing = policy_problem(route, observed)
    if gateway is None or gateway.guarantee is None:
        verdict, message = _said_before(previous)
    elif gateway.guarantee.verdict.reason is ConditionReason.NO_POLICY:
        # The keeper has not yet seen the live policy that asks for one.
        verdict, message = _STARTING, ""
    else:
        verdict, message = gateway.guarantee.verdict, gateway.guarantee.message
    trouble = missing or _refused(gateway)
    # What was said before may say so already.
    return verdict, message if trouble in message else "; ".join(filter(None, (message, trouble)))


def _refused(gateway: GatewayState | None) -> str:
    problem = gateway.policy_problem if gateway else ""
    return f"the policy that the route names is not in force: {problem}" if problem else ""


def _said_before(previous: HybridRouteStatus | None) -> tuple[Verdict, str]:
    for condition in previous.conditions if previous else ():
        if condition.type is ConditionType.GUARANTEE_VALID and condition.reason != ConditionReason.NO_POLICY:
            return Verdict(condition.status, ConditionReason(condition.reason)), condition.message
    return _STARTING, ""
