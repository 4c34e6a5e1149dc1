"""Which requests an audit may be drawn from."""

import pytest
from msgspec.structs import replace

from hybridroute_api.standing import Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.vocabulary import DriftAction, Gate, PathName
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.audit import AuditPlan, plan_audit
from hybridroute_serve.routing.facts import PathHealth
from hybridroute_serve.routing.route_decision import RouteDecision
from support.artifacts import artifact_policy
from support.routing_cases import request_of

HOLDS = Guarantee(GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED)
TERMS = ArtifactTerms("digest", 0.7, "why", 0.3, DriftAction.TIGHTEN, 0.9, HOLDS, None)
ASKED = artifact_policy(audit_share=0.05)
UP = PathHealth()
KEPT = RouteDecision(
    PathName.SLM,
    Gate.CONFIDENCE,
    "kept",
    confidence=0.8,
    threshold=0.7,
    scope_score=0.5,
    scope_threshold=0.3,
    fallbacks=(PathName.LLM,),
)
MOVED = replace(KEPT, path=PathName.LLM, gate=Gate.DRIFT)
SHADOWED = replace(MOVED, gate=Gate.FORCED, shadow_gate=Gate.CONFIDENCE, shadow_path=PathName.SLM)


def test_a_kept_request_is_copied_to_the_llm() -> None:
    assert plan_audit(KEPT, request_of(), TERMS, ASKED, UP) == AuditPlan(0.05, PathName.LLM)


@pytest.mark.parametrize("decision", [MOVED, SHADOWED, replace(SHADOWED, shadow_gate=Gate.DRIFT)])
def test_a_kept_request_that_an_alarm_or_shadow_moved_is_copied_to_the_slm(decision: RouteDecision) -> None:
    assert plan_audit(decision, request_of(), TERMS, ASKED, UP) == AuditPlan(0.05, PathName.SLM)


@pytest.mark.parametrize(
    "decision",
    [
        replace(KEPT, confidence=0.6, path=PathName.LLM),
        replace(KEPT, threshold=None, path=PathName.LLM),
        replace(KEPT, scope_score=0.2, gate=Gate.SCOPE),
        replace(MOVED, scope_score=0.2),
        replace(KEPT, path=None),
        RouteDecision(PathName.SLM, Gate.FORCED, "local-only key"),
        RouteDecision(PathName.SLM, Gate.FORCED, "mode LocalOnly"),
        replace(KEPT, confidence=None, gate=Gate.SCOPE),
        replace(SHADOWED, path=PathName.SLM, confidence=0.6),
        *(replace(MOVED, gate=gate) for gate in (Gate.HEALTH, Gate.OVERFLOW, Gate.BUDGET, Gate.CAPABILITY)),
    ],
)
def test_what_the_policy_does_not_keep_is_never_audited(decision: RouteDecision) -> None:
    assert plan_audit(decision, request_of(), TERMS, ASKED, UP) is None


@pytest.mark.parametrize(
    "change", [{"tools": True}, {"multi_turn": True}, {"plain": False}, {"system_prompt": "a"}]
)
def test_only_the_labels_shape_is_audited(change: dict[str, object]) -> None:
    facts = replace(request_of(), **change)  # type: ignore[arg-type]
    assert plan_audit(KEPT, facts, TERMS, ASKED, UP) is None


def test_nothing_is_audited_unasked_or_without_a_policy() -> None:
    assert plan_audit(KEPT, request_of(), TERMS, artifact_policy(), UP) is None
    assert plan_audit(KEPT, request_of(), TERMS, None, UP) is None
    assert plan_audit(KEPT, request_of(), None, ASKED, UP) is None


@pytest.mark.parametrize(
    ("decision", "health"),
    [
        (KEPT, PathHealth(llm_up=False)),
        (MOVED, PathHealth(slm_up=False)),
        (MOVED, PathHealth(slm_failing=True)),
        (MOVED, PathHealth(slm_full=True)),
    ],
)
def test_no_copy_goes_to_a_path_that_is_down_or_struggles(
    decision: RouteDecision, health: PathHealth
) -> None:
    assert plan_audit(decision, request_of(), TERMS, ASKED, health) is None
