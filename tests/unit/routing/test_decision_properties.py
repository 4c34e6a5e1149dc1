"""What holds of every decision, whatever the request, the policy, the scores and the health of the paths."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Gate, Mode, Outcome, OutOfScopeAction, PathName
from hybridroute_serve.routing.capability import incapability
from hybridroute_serve.routing.decision import decide_route, plan_failover
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from support.routing_cases import CONTEXT_TOKENS, FixedScorer, policy_of

ORDER = list(Gate)

unit = st.floats(0, 1)
cosine = st.floats(-1, 1)
requests = st.builds(
    RequestFacts,
    requested_model=st.sampled_from(["hybridroute", "support", "slm", "llm", "gpt-4o"]),
    text=st.just("any"),
    estimated_prompt_tokens=st.integers(0, 2 * CONTEXT_TOKENS),
    max_output_tokens=st.none() | st.integers(1, 2 * CONTEXT_TOKENS),
    images=st.booleans(),
    tools=st.booleans(),
    json_schema=st.booleans(),
    conversation_path=st.none() | st.sampled_from(PathName),
    local_only=st.booleans(),
)
policies = st.builds(
    policy_of,
    mode=st.sampled_from(Mode),
    out_of_scope=st.sampled_from(OutOfScopeAction),
    threshold=unit,
    scope_threshold=cosine,
    tools=st.booleans(),
    json_schema=st.booleans(),
)
scorers = st.builds(FixedScorer, confidence=unit, scope=cosine, local_scope=cosine)
healths = st.builds(
    PathHealth,
    slm_up=st.booleans(),
    slm_failing=st.booleans(),
    slm_full=st.booleans(),
    llm_up=st.booleans(),
)


def first_gate(request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None) -> Gate:
    """Say which gate decides while both paths are well: a second, independent reading of the order."""
    unable = incapability(request, policy.slm) is not None
    opinions = {
        Gate.FORCED: request.local_only
        or policy.mode is not Mode.HYBRID
        or request.requested_model not in ("hybridroute", "support")
        or request.conversation_path is PathName.LLM
        or (request.conversation_path is PathName.SLM and not unable),
        Gate.CAPABILITY: unable,
        Gate.SCOPE: scorer is not None and scorer.scope < policy.routing.scope_threshold,
        Gate.CONFIDENCE: True,
    }
    return next(gate for gate in ORDER if opinions.get(gate))


@given(requests, policies, st.none() | scorers)
def test_the_first_gate_with_an_opinion_decides(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None
) -> None:
    decision = decide_route(request, policy, scorer, PathHealth())
    assert decision.gate is first_gate(request, policy, scorer)


@given(requests, policies, st.none() | scorers, healths)
def test_health_and_overflow_only_ever_come_after_the_deciding_gate(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None, health: PathHealth
) -> None:
    well = decide_route(request, policy, scorer, PathHealth())
    decision = decide_route(request, policy, scorer, health)
    assert ORDER.index(decision.gate) >= ORDER.index(well.gate)
    if decision.gate is well.gate:
        assert decision.path is well.path
    else:
        assert decision.gate in (Gate.HEALTH, Gate.OVERFLOW)
        assert decision.path is not well.path


@given(requests, policies, st.none() | scorers, healths)
def test_a_decision_has_a_gate_a_reason_and_either_a_path_or_a_rejection(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None, health: PathHealth
) -> None:
    decision = decide_route(request, policy, scorer, health)
    assert decision.gate in Gate
    assert decision.reason.strip()
    assert "\n" not in decision.reason
    assert (decision.path is None) == (decision.rejection is not None)
    assert decision.path not in decision.fallbacks
    assert decision == decide_route(request, policy, scorer, health)


@given(requests, policies, st.none() | scorers, healths)
def test_no_path_is_used_that_is_down_or_that_the_mode_forbids(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None, health: PathHealth
) -> None:
    decision = decide_route(request, policy, scorer, health)
    used = {decision.path, *decision.fallbacks} - {None}
    if policy.mode is Mode.LOCAL_ONLY:
        assert used <= {PathName.SLM}
    if policy.mode is Mode.LLM_ONLY:
        assert used <= {PathName.LLM}
    if not health.slm_up:
        assert PathName.SLM not in used
    if not health.llm_up:
        assert PathName.LLM not in used


@given(requests, policies, st.none() | scorers, healths, st.sampled_from(Outcome))
def test_what_a_local_only_key_sends_never_leaves_the_slm(
    request: RequestFacts,
    policy: LivePolicy,
    scorer: FixedScorer | None,
    health: PathHealth,
    outcome: Outcome,
) -> None:
    decision = decide_route(structs.replace(request, local_only=True), policy, scorer, health)
    assert decision.path in (PathName.SLM, None)
    assert decision.fallbacks == ()
    assert plan_failover(decision, outcome, "context_length_exceeded") is None


@given(requests, policies, st.none() | scorers, healths)
def test_a_deciding_route_never_gives_the_slm_what_it_cannot_serve(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer | None, health: PathHealth
) -> None:
    decision = decide_route(request, policy, scorer, health)
    if decision.gate is not Gate.FORCED and incapability(request, policy.slm) is not None:
        assert PathName.SLM not in (decision.path, *decision.fallbacks)


@given(requests, policies, scorers, healths, unit)
def test_a_higher_threshold_never_moves_a_request_to_the_slm(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer, health: PathHealth, other: float
) -> None:
    low, high = sorted((policy.routing.threshold, other))

    def path_at(threshold: float) -> PathName | None:
        routing = policy.routing.model_copy(update={"threshold": threshold})
        return decide_route(request, policy.model_copy(update={"routing": routing}), scorer, health).path

    if path_at(low) is not PathName.SLM:
        assert path_at(high) is path_at(low)


@given(requests, policies, scorers, healths, unit)
def test_a_higher_confidence_never_moves_a_request_off_the_slm(
    request: RequestFacts, policy: LivePolicy, scorer: FixedScorer, health: PathHealth, other: float
) -> None:
    low, high = sorted((scorer.confidence, other))
    if decide_route(request, policy, replace(scorer, confidence=low), health).path is PathName.SLM:
        assert decide_route(request, policy, replace(scorer, confidence=high), health).path is PathName.SLM


@given(requests, policies, st.none() | scorers, healths, st.sampled_from(Outcome))
def test_a_failover_goes_where_the_decision_allowed_and_says_so(
    request: RequestFacts,
    policy: LivePolicy,
    scorer: FixedScorer | None,
    health: PathHealth,
    outcome: Outcome,
) -> None:
    decision = decide_route(request, policy, scorer, health)
    after = plan_failover(decision, outcome)
    if after is not None:
        assert after.path in decision.fallbacks
        assert after.gate in (Gate.HEALTH, Gate.OVERFLOW)
        assert decision.reason in after.reason
