"""When the promise holds, and which requests it covered."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from hybridroute_api.records import CascadeCheck
from hybridroute_api.standing import DriftStanding, Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus
from hybridroute_api.vocabulary import CascadeVerdict, DriftAction, Gate, OutsidePromise, PathName
from hybridroute_serve.routing import guarantee
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.cascade import let_stand
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.guarantee import decide_guarantee, why_outside
from hybridroute_serve.routing.route_decision import RouteDecision
from support.routing_cases import request_of

HOLDS = Guarantee(GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED, "joint regret <= 0.04")
VOID = Guarantee(GuaranteeStatus.FALSE, GuaranteeReason.MODELS_CHANGED, "slm was a and is b")
TERMS = ArtifactTerms("digest", 0.7, "why", 0.3, DriftAction.TIGHTEN, 0.9, HOLDS, None)
CALM = DriftStanding("digest")
DRIFTED = DriftStanding("digest", alarm="rings", void="drift: rang")
KEPT = RouteDecision(PathName.SLM, Gate.CONFIDENCE, "kept", confidence=0.8)


@pytest.mark.parametrize(
    ("terms", "standing", "asked", "status", "reason"),
    [
        (None, CALM, False, GuaranteeStatus.UNKNOWN, GuaranteeReason.NO_POLICY),
        (None, CALM, True, GuaranteeStatus.UNKNOWN, GuaranteeReason.POLICY_NOT_LOADED),
        (TERMS, CALM, True, GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED),
        (TERMS, DRIFTED, True, GuaranteeStatus.FALSE, GuaranteeReason.DRIFTED),
        (
            TERMS,
            replace(DRIFTED, void_by_audit=True),
            True,
            GuaranteeStatus.FALSE,
            GuaranteeReason.CONCEPT_DRIFT,
        ),
        (TERMS, replace(DRIFTED, alarm=None), True, GuaranteeStatus.FALSE, GuaranteeReason.DRIFTED),
        (TERMS, replace(DRIFTED, artifact="old"), True, GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED),
        (
            TERMS,
            replace(CALM, unknown="no money"),
            True,
            GuaranteeStatus.UNKNOWN,
            GuaranteeReason.AUDIT_STOPPED,
        ),
        (
            replace(TERMS, guarantee=VOID),
            DRIFTED,
            True,
            GuaranteeStatus.FALSE,
            GuaranteeReason.MODELS_CHANGED,
        ),
    ],
)
def test_verdict(
    terms: ArtifactTerms | None,
    standing: DriftStanding,
    asked: bool,
    status: GuaranteeStatus,
    reason: GuaranteeReason,
) -> None:
    verdict = decide_guarantee(terms, standing, asked=asked, problem="it is damaged")
    assert (verdict.status, verdict.reason) == (status, reason)
    if reason is GuaranteeReason.POLICY_NOT_LOADED:
        assert verdict.message == "it is damaged"


def test_the_words_are_those_of_the_condition() -> None:
    assert {reason.value for reason in GuaranteeReason} <= {reason.value for reason in ConditionReason}
    assert {status.value for status in GuaranteeStatus} == {status.value for status in ConditionStatus}


def test_the_documentation_has_the_same_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text()
    rows = [row for row in (guarantee.__doc__ or "").splitlines() if row.startswith("|")]
    assert len(rows) == 2 + 10
    assert "\n".join(rows) in page
    for cause in OutsidePromise:
        assert f"| `{cause}` |" in page


def test_a_kept_request_like_the_labels_is_covered() -> None:
    assert why_outside(KEPT, request_of(), TERMS, CALM) is None


def test_an_answer_that_a_cascade_let_stand_is_covered() -> None:
    check = CascadeCheck(CascadeVerdict.ESCALATED, 0.6, 0.4, 16)
    assert why_outside(let_stand(KEPT, check, "llm timeout"), request_of(), TERMS, CALM) is None


@pytest.mark.parametrize(
    ("gate", "cause"),
    [
        (Gate.FORCED, OutsidePromise.FORCED),
        (Gate.SCOPE, OutsidePromise.KEPT_LOCAL),
        (Gate.HEALTH, OutsidePromise.FAILURE),
        (Gate.OVERFLOW, OutsidePromise.FAILURE),
        (Gate.BUDGET, OutsidePromise.BUDGET),
    ],
)
def test_what_another_gate_sent_there_is_not(gate: Gate, cause: OutsidePromise) -> None:
    assert why_outside(structs.replace(KEPT, gate=gate), request_of(), TERMS, CALM) is cause


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"tools": True}, OutsidePromise.TOOLS),
        ({"multi_turn": True}, OutsidePromise.MULTI_TURN),
        ({"plain": False}, OutsidePromise.SHAPE),
        ({"system_prompt": "abc"}, OutsidePromise.SYSTEM_PROMPT),
    ],
)
def test_shapes_that_no_label_had_are_marked(change: dict[str, object], cause: OutsidePromise) -> None:
    facts: RequestFacts = structs.replace(request_of(), **change)  # type: ignore[arg-type]
    assert why_outside(KEPT, facts, TERMS, CALM) is cause


def test_the_system_prompt_of_the_labels_is_covered_and_its_absence_is_not() -> None:
    terms = replace(TERMS, system_prompt="abc")
    assert why_outside(KEPT, structs.replace(request_of(), system_prompt="abc"), terms, CALM) is None
    assert why_outside(KEPT, request_of(), terms, CALM) is OutsidePromise.SYSTEM_PROMPT


@pytest.mark.parametrize("standing", [None, DRIFTED, replace(CALM, artifact="other")])
def test_nothing_is_covered_while_the_promise_is_void_or_nobody_knows(standing: DriftStanding | None) -> None:
    assert why_outside(KEPT, request_of(), TERMS, standing) is OutsidePromise.NOT_PROMISED
    assert why_outside(KEPT, request_of(), None, CALM) is OutsidePromise.NOT_PROMISED
    void = replace(TERMS, guarantee=VOID)
    assert why_outside(KEPT, request_of(), void, CALM) is OutsidePromise.NOT_PROMISED


def test_what_a_scope_gate_of_labels_alone_keeps_was_never_promised() -> None:
    kept = structs.replace(KEPT, gate=Gate.SCOPE, confidence=None)
    assert why_outside(kept, request_of(), TERMS, CALM) is OutsidePromise.NOT_PROMISED
