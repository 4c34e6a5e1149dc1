"""The budget gate, one row a rule of the table in `decision`: who is sent to the SLM, who is told to come back."""

import pytest

from hybridroute_api.serving import BudgetPolicy
from hybridroute_api.vocabulary import ErrorCode, ExhaustedAction, Gate, Mode, Outcome, PathName
from hybridroute_serve.routing.decision import decide_route, plan_failover, plan_unaffordable
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision
from support.routing_cases import FixedScorer, policy_of, request_of

DEGRADE, REJECT = ExhaustedAction.DEGRADE, ExhaustedAction.REJECT
SLM, LLM = PathName.SLM, PathName.LLM
UP = PathHealth()
SLM_DOWN = PathHealth(slm_up=False, slm_detail="no ready replica")
DETAIL = "USD 9.99 of 10 spent"

KEPT = FixedScorer(confidence=0.9)
NEAR_MISS = FixedScorer(confidence=0.2)
REMOTE_ALIKE = FixedScorer(confidence=0.1, scope=0.9, local_scope=0.2)
OUT = FixedScorer(confidence=0.9, scope=0.1, local_scope=0.1)


def a_budget(fit: ExhaustedAction, unfit: ExhaustedAction) -> BudgetPolicy:
    return BudgetPolicy(
        limit_nano_usd=10**10, window="24h", on_exhausted=fit, on_exhausted_out_of_scope=unfit
    )


def decided(
    request: RequestFacts, scorer: FixedScorer | None, *, mode: Mode = Mode.HYBRID, health: PathHealth = UP
) -> RouteDecision:
    decision = decide_route(request, policy_of(mode=mode), scorer, health)
    assert decision.path is LLM
    return decision


def failed_on_the_slm(outcome: Outcome, code: ErrorCode | None = None) -> RouteDecision:
    moved = plan_failover(decide_route(request_of(), policy_of(), KEPT, UP), outcome, code)
    assert moved is not None
    return moved


FIT = [decided(request_of(), NEAR_MISS)]
UNKNOWN = [
    decided(request_of(), OUT),
    decided(request_of(), None),
    decided(request_of(), REMOTE_ALIKE),
    decided(request_of(conversation_path=LLM), KEPT),
]
BARRED = [
    decided(request_of(), KEPT, mode=Mode.LLM_ONLY),
    decided(request_of(model="llm"), KEPT),
    decided(request_of(images=True), KEPT),
    decided(request_of(conversation_path=LLM, images=True), KEPT),
    decided(request_of(conversation_path=SLM), KEPT, health=SLM_DOWN),
    decided(request_of(), KEPT, health=SLM_DOWN),
    decided(request_of(), KEPT, health=PathHealth(slm_full=True)),
    failed_on_the_slm(Outcome.UPSTREAM_ERROR),
    failed_on_the_slm(Outcome.THROTTLED),
    failed_on_the_slm(Outcome.CLIENT_ERROR, ErrorCode.CONTEXT_LENGTH_EXCEEDED),
]


@pytest.mark.parametrize("decision", FIT)
@pytest.mark.parametrize(("action", "path"), [(DEGRADE, SLM), (REJECT, LLM)])
def test_what_the_slm_is_fit_for_follows_on_exhausted(decision, action, path):
    other = REJECT if action is DEGRADE else DEGRADE
    after = plan_unaffordable(decision, a_budget(action, other), UP, DETAIL)

    assert (after.path, after.gate, after.fallbacks) == (path, Gate.BUDGET, ())
    assert after.reason == (
        f"llm unaffordable: {DETAIL}; onExhausted {action}; meant for it by {decision.gate}: {decision.reason}"
    )
    assert (after.confidence, after.threshold) == (decision.confidence, decision.threshold)


@pytest.mark.parametrize("decision", UNKNOWN)
@pytest.mark.parametrize(("action", "path"), [(DEGRADE, SLM), (REJECT, LLM)])
def test_what_the_slm_is_not_known_to_be_fit_for_follows_the_other_field(decision, action, path):
    other = REJECT if action is DEGRADE else DEGRADE
    after = plan_unaffordable(decision, a_budget(other, action), UP, DETAIL)

    assert (after.path, after.gate, after.fallbacks) == (path, Gate.BUDGET, ())
    assert f"; onExhaustedOutOfScope {action}; meant for it by {decision.gate}" in after.reason


@pytest.mark.parametrize("decision", BARRED)
def test_what_may_not_go_to_the_slm_is_refused_whatever_the_fields_say(decision):
    after = plan_unaffordable(decision, a_budget(DEGRADE, DEGRADE), UP, DETAIL)

    assert (after.path, after.gate) == (LLM, Gate.BUDGET)
    assert "; the slm may not serve it; " in after.reason
    assert decision.reason in after.reason


@pytest.mark.parametrize("decision", [*FIT, *UNKNOWN])
def test_an_slm_that_is_down_by_then_is_nowhere_to_go(decision):
    after = plan_unaffordable(decision, a_budget(DEGRADE, DEGRADE), SLM_DOWN, DETAIL)

    assert (after.path, after.gate) == (LLM, Gate.BUDGET)
    assert "Degrade, but slm no ready replica" in after.reason


def test_a_clients_own_budget_on_a_route_without_one_follows_the_specs_defaults():
    assert plan_unaffordable(FIT[0], None, UP, DETAIL).path is SLM
    assert plan_unaffordable(UNKNOWN[0], None, UP, DETAIL).path is LLM


def test_nothing_moves_on_after_the_budget_gate():
    after = plan_unaffordable(FIT[0], a_budget(DEGRADE, DEGRADE), UP, DETAIL)

    assert plan_failover(after, Outcome.UPSTREAM_ERROR) is None
