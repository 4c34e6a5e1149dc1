"""Which requests an audit may be drawn from, and with which chance: those that the calibrated policy keeps. Pure.

A request is *kept* by its numbers: in scope, and its confidence reaches the threshold, whichever path serves it then.
While a drift alarm or mode Shadow sends kept ones to the LLM, their copies go to the SLM, so that what is compared is
always the same kind of request and an alarm's own action does not change it. Not audited: what another gate decided,
what has no labelled row's shape, and what has nowhere to be copied to.
"""

from dataclasses import dataclass

from hybridroute_api.serving import ArtifactPolicy
from hybridroute_api.vocabulary import Gate, PathName
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.guarantee import odd_shape
from hybridroute_serve.routing.route_decision import RouteDecision

__all__ = ["AuditPlan", "plan_audit"]

_GATES = frozenset({Gate.CONFIDENCE, Gate.DRIFT})


@dataclass(frozen=True, slots=True)
class AuditPlan:
    """A request that may be drawn."""

    propensity: float
    """Chance with which it is drawn; hangs on nothing of the request."""
    copy_to: PathName


def plan_audit(
    decision: RouteDecision,
    facts: RequestFacts,
    terms: ArtifactTerms | None,
    asked: ArtifactPolicy | None,
    health: PathHealth,
) -> AuditPlan | None:
    """Return the chance to draw it with, and where its copy goes; None where it cannot be audited."""
    if asked is None or terms is None or asked.audit_share <= 0.0 or decision.path is None:
        return None
    if not _is_kept(decision) or odd_shape(facts, terms) is not None:
        return None
    if decision.path is PathName.SLM:
        return AuditPlan(asked.audit_share, PathName.LLM) if health.llm_up else None
    # A copy must not be what a struggling SLM breaks at.
    well = health.slm_up and not health.slm_failing and not health.slm_full
    return AuditPlan(asked.audit_share, PathName.SLM) if well else None


def _is_kept(decision: RouteDecision) -> bool:
    gate = decision.shadow_gate or decision.gate
    if gate not in _GATES or decision.confidence is None or decision.threshold is None:
        return False
    in_scope = decision.scope_score is not None and decision.scope_score >= (decision.scope_threshold or 0.0)
    return in_scope and decision.confidence >= decision.threshold
