"""Mode Shadow: one path serves, and what the gates would have chosen is noted with its numbers."""

import pytest

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Gate, Mode, OutOfScopeAction, PathName
from hybridroute_serve.routing.decision import decide_route
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.route_decision import Fitness, RouteDecision
from support.routing_cases import FixedScorer, policy_of, request_of

KNOWN, DOUBTED = FixedScorer(confidence=0.9), FixedScorer(confidence=0.1)
STRANGE = FixedScorer(scope=0.1)


def shadow(path: PathName, out_of_scope: OutOfScopeAction = OutOfScopeAction.ESCALATE) -> LivePolicy:
    return policy_of(mode=Mode.SHADOW, shadow_serve=path, out_of_scope=out_of_scope)


def decide(
    path: PathName,
    scorer: FixedScorer = KNOWN,
    health: PathHealth | None = None,
    request: RequestFacts | None = None,
) -> RouteDecision:
    return decide_route(request or request_of(), shadow(path), scorer, health or PathHealth())


@pytest.mark.parametrize("path", PathName)
@pytest.mark.parametrize(
    ("scorer", "gate", "chosen"),
    [
        (KNOWN, Gate.CONFIDENCE, PathName.SLM),
        (DOUBTED, Gate.CONFIDENCE, PathName.LLM),
        (STRANGE, Gate.SCOPE, PathName.LLM),
    ],
)
def test_one_path_serves_and_the_choice_is_noted(
    path: PathName, scorer: FixedScorer, gate: Gate, chosen: PathName
) -> None:
    decision = decide(path, scorer)
    assert (decision.path, decision.gate) == (path, Gate.FORCED)
    assert (decision.shadow_gate, decision.shadow_path) == (gate, chosen)
    assert decision.reason.startswith(f"mode Shadow; {chosen} by {gate}: ")
    assert decision.confidence == scorer.confidence
    assert decision.rejection is None


def test_what_would_be_refused_is_served() -> None:
    policy = shadow(PathName.LLM, OutOfScopeAction.REJECT)
    decision = decide_route(request_of(), policy, STRANGE, PathHealth())
    assert (decision.path, decision.rejection) == (PathName.LLM, None)
    assert (decision.shadow_gate, decision.shadow_path) == (Gate.SCOPE, None)
    assert decision.reason.startswith("mode Shadow; refused by scope: ")


def test_what_the_slm_cannot_serve_goes_to_the_llm() -> None:
    decision = decide(PathName.SLM, request=request_of(images=True))
    assert (decision.path, decision.gate) == (PathName.LLM, Gate.CAPABILITY)
    assert (decision.shadow_gate, decision.shadow_path) == (Gate.CAPABILITY, PathName.LLM)


def test_a_path_that_is_down_is_carried_by_the_other_where_that_is_fit() -> None:
    down = decide(PathName.SLM, health=PathHealth(slm_up=False))
    assert (down.path, down.gate) == (PathName.LLM, Gate.HEALTH)
    carried = decide(PathName.LLM, health=PathHealth(llm_up=False))
    assert (carried.path, carried.gate, carried.slm_fitness) == (PathName.SLM, Gate.HEALTH, Fitness.FIT)
    refused = decide(PathName.LLM, STRANGE, health=PathHealth(llm_up=False))
    assert refused.path is None
    assert refused.rejection is not None
    assert refused.rejection.status == 503


def test_names_and_keys_that_force_a_path_are_obeyed() -> None:
    forced = decide(PathName.LLM, request=request_of(model="slm"))
    assert (forced.path, forced.shadow_gate) == (PathName.SLM, None)
    local = decide(PathName.LLM, request=request_of(local_only=True))
    assert (local.path, local.shadow_gate) == (PathName.SLM, None)
