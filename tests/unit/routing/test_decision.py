"""The order of the gates, one row a rule: what decides, where to, and where the request may go after a failure."""

import pytest

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import ErrorCode, Gate, Mode, Outcome, OutOfScopeAction, PathName
from hybridroute_serve.routing.decision import decide_route, plan_failover
from hybridroute_serve.routing.examples import Scorer
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from support.routing_cases import FixedScorer, UnaskedScorer, policy_of, request_of

SLM, LLM = PathName.SLM, PathName.LLM
UP = PathHealth()
SLM_DOWN = PathHealth(slm_up=False, slm_detail="no ready replica")
SLM_FULL = PathHealth(slm_full=True)
SLM_FAILING = PathHealth(slm_failing=True)
LLM_DOWN = PathHealth(llm_up=False, llm_detail="no upstream answers")
BOTH_DOWN = PathHealth(slm_up=False, llm_up=False)
SLM_FULL_LLM_DOWN = PathHealth(slm_full=True, llm_up=False)

KEPT = FixedScorer(confidence=0.9)
ESCALATED = FixedScorer(confidence=0.2)
REMOTE_ALIKE = FixedScorer(confidence=0.1, scope=0.9, local_scope=0.2)
OUT = FixedScorer(confidence=0.9, scope=0.1, local_scope=0.1)
NEVER = UnaskedScorer()

HYBRID = policy_of()
LOCAL_ONLY = policy_of(mode=Mode.LOCAL_ONLY)
LLM_ONLY = policy_of(mode=Mode.LLM_ONLY)
REJECT = policy_of(out_of_scope=OutOfScopeAction.REJECT)
KEEP_LOCAL = policy_of(out_of_scope=OutOfScopeAction.KEEP_LOCAL)

PLAIN = request_of()
IMAGE = request_of(images=True)
TO_SLM = request_of(model="slm")
TO_LLM = request_of(model="llm")
SLM_TALK = request_of(conversation_path=SLM)
SLM_TALK_IMAGE = request_of(conversation_path=SLM, images=True)
LLM_TALK = request_of(conversation_path=LLM)
LOCAL_KEY = request_of(local_only=True)
LOCAL_KEY_TO_SLM = request_of(model="slm", local_only=True)
LOCAL_KEY_IMAGE = request_of(images=True, local_only=True)
LOCAL_KEY_LLM_TALK = request_of(conversation_path=LLM, local_only=True)

Row = tuple[LivePolicy, RequestFacts, Scorer | None, PathHealth, PathName | None, Gate, tuple[PathName, ...]]

TABLE: list[Row] = [
    # forced by mode: nothing else is asked, nothing moves it
    (LOCAL_ONLY, PLAIN, NEVER, UP, SLM, Gate.FORCED, ()),
    (LOCAL_ONLY, IMAGE, NEVER, UP, SLM, Gate.FORCED, ()),
    (LOCAL_ONLY, TO_SLM, NEVER, UP, SLM, Gate.FORCED, ()),
    (LOCAL_ONLY, LLM_TALK, NEVER, UP, SLM, Gate.FORCED, ()),
    (LOCAL_ONLY, PLAIN, NEVER, SLM_DOWN, None, Gate.HEALTH, ()),
    (LOCAL_ONLY, PLAIN, NEVER, SLM_FULL, SLM, Gate.FORCED, ()),
    (LOCAL_ONLY, PLAIN, NEVER, LLM_DOWN, SLM, Gate.FORCED, ()),
    (LLM_ONLY, PLAIN, NEVER, UP, LLM, Gate.FORCED, ()),
    (LLM_ONLY, SLM_TALK, NEVER, UP, LLM, Gate.FORCED, ()),
    (LLM_ONLY, PLAIN, NEVER, LLM_DOWN, None, Gate.HEALTH, ()),
    (LLM_ONLY, PLAIN, NEVER, SLM_DOWN, LLM, Gate.FORCED, ()),
    # a local-only key: what it sends never leaves the slm
    (HYBRID, LOCAL_KEY, NEVER, UP, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY_TO_SLM, NEVER, UP, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY_IMAGE, NEVER, UP, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY_LLM_TALK, NEVER, UP, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY, NEVER, SLM_FULL, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY, NEVER, SLM_FAILING, SLM, Gate.FORCED, ()),
    (HYBRID, LOCAL_KEY, NEVER, SLM_DOWN, None, Gate.HEALTH, ()),
    (LOCAL_ONLY, LOCAL_KEY, NEVER, UP, SLM, Gate.FORCED, ()),
    (LLM_ONLY, LOCAL_KEY, NEVER, UP, None, Gate.FORCED, ()),
    # forced by the model's name
    (HYBRID, TO_SLM, NEVER, UP, SLM, Gate.FORCED, ()),
    (HYBRID, TO_SLM, NEVER, SLM_DOWN, None, Gate.HEALTH, ()),
    (HYBRID, TO_SLM, NEVER, SLM_FULL, SLM, Gate.FORCED, ()),
    (HYBRID, TO_SLM, NEVER, SLM_FAILING, SLM, Gate.FORCED, ()),
    (HYBRID, TO_LLM, NEVER, UP, LLM, Gate.FORCED, ()),
    (HYBRID, TO_LLM, NEVER, LLM_DOWN, None, Gate.HEALTH, ()),
    # conversations stay with their path while it can serve them
    (HYBRID, SLM_TALK, NEVER, UP, SLM, Gate.FORCED, (LLM,)),
    (HYBRID, SLM_TALK, NEVER, SLM_DOWN, LLM, Gate.HEALTH, ()),
    (HYBRID, SLM_TALK, NEVER, SLM_FULL, LLM, Gate.OVERFLOW, ()),
    (HYBRID, SLM_TALK, NEVER, LLM_DOWN, SLM, Gate.FORCED, ()),
    (HYBRID, SLM_TALK_IMAGE, NEVER, UP, LLM, Gate.CAPABILITY, ()),
    (HYBRID, LLM_TALK, NEVER, UP, LLM, Gate.FORCED, ()),
    (HYBRID, LLM_TALK, NEVER, LLM_DOWN, None, Gate.HEALTH, ()),
    # capability comes before the scores
    (HYBRID, IMAGE, NEVER, UP, LLM, Gate.CAPABILITY, ()),
    (KEEP_LOCAL, IMAGE, NEVER, UP, LLM, Gate.CAPABILITY, ()),
    (REJECT, IMAGE, NEVER, UP, LLM, Gate.CAPABILITY, ()),
    (HYBRID, IMAGE, NEVER, LLM_DOWN, None, Gate.HEALTH, ()),
    (HYBRID, IMAGE, NEVER, SLM_DOWN, LLM, Gate.CAPABILITY, ()),
    # without examples the LLM serves, and nothing says that the SLM could instead
    (HYBRID, PLAIN, None, UP, LLM, Gate.CONFIDENCE, ()),
    (HYBRID, PLAIN, None, LLM_DOWN, None, Gate.HEALTH, ()),
    (REJECT, PLAIN, None, UP, LLM, Gate.CONFIDENCE, ()),
    # scope comes before confidence
    (HYBRID, PLAIN, OUT, UP, LLM, Gate.SCOPE, ()),
    (HYBRID, PLAIN, OUT, SLM_DOWN, LLM, Gate.SCOPE, ()),
    (HYBRID, PLAIN, OUT, LLM_DOWN, None, Gate.HEALTH, ()),
    (REJECT, PLAIN, OUT, UP, None, Gate.SCOPE, ()),
    (REJECT, PLAIN, OUT, BOTH_DOWN, None, Gate.SCOPE, ()),
    (REJECT, PLAIN, KEPT, UP, SLM, Gate.CONFIDENCE, (LLM,)),
    (KEEP_LOCAL, PLAIN, OUT, UP, SLM, Gate.SCOPE, (LLM,)),
    (KEEP_LOCAL, PLAIN, OUT, SLM_DOWN, LLM, Gate.HEALTH, ()),
    (KEEP_LOCAL, PLAIN, OUT, SLM_FULL, LLM, Gate.OVERFLOW, ()),
    (KEEP_LOCAL, PLAIN, OUT, LLM_DOWN, SLM, Gate.SCOPE, ()),
    # confidence, then health and overflow
    (HYBRID, PLAIN, KEPT, UP, SLM, Gate.CONFIDENCE, (LLM,)),
    (HYBRID, PLAIN, KEPT, SLM_DOWN, LLM, Gate.HEALTH, ()),
    (HYBRID, PLAIN, KEPT, SLM_FULL, LLM, Gate.OVERFLOW, ()),
    (HYBRID, PLAIN, KEPT, SLM_FAILING, LLM, Gate.HEALTH, ()),
    (HYBRID, PLAIN, KEPT, LLM_DOWN, SLM, Gate.CONFIDENCE, ()),
    (HYBRID, PLAIN, KEPT, SLM_FULL_LLM_DOWN, SLM, Gate.CONFIDENCE, ()),
    (HYBRID, PLAIN, KEPT, BOTH_DOWN, None, Gate.HEALTH, ()),
    (HYBRID, PLAIN, ESCALATED, UP, LLM, Gate.CONFIDENCE, (SLM,)),
    (HYBRID, PLAIN, ESCALATED, SLM_DOWN, LLM, Gate.CONFIDENCE, ()),
    (HYBRID, PLAIN, ESCALATED, SLM_FULL, LLM, Gate.CONFIDENCE, (SLM,)),
    (HYBRID, PLAIN, ESCALATED, LLM_DOWN, SLM, Gate.HEALTH, ()),
    (HYBRID, PLAIN, ESCALATED, SLM_FULL_LLM_DOWN, SLM, Gate.HEALTH, ()),
    (HYBRID, PLAIN, ESCALATED, BOTH_DOWN, None, Gate.HEALTH, ()),
    # known by a remote example alone: not fit for the SLM
    (HYBRID, PLAIN, REMOTE_ALIKE, UP, LLM, Gate.CONFIDENCE, ()),
    (HYBRID, PLAIN, REMOTE_ALIKE, LLM_DOWN, None, Gate.HEALTH, ()),
]


@pytest.mark.parametrize("row", TABLE)
def test_which_gate_decides(row: Row) -> None:
    policy, request_facts, scorer, health, path, gate, fallbacks = row
    decision = decide_route(request_facts, policy, scorer, health)
    assert (decision.path, decision.gate, decision.fallbacks) == (path, gate, fallbacks)
    assert decision.reason
    if path is None:
        assert decision.rejection is not None
        assert decision.rejection.status == (422 if gate is Gate.SCOPE else 503)
        assert not decision.fallbacks
    else:
        assert decision.rejection is None


def test_a_scored_decision_carries_its_numbers() -> None:
    decision = decide_route(PLAIN, HYBRID, KEPT, UP)
    assert decision.reason == "confidence 0.900 >= 0.700 (local 0.600, remote 0.400)"
    assert (decision.confidence, decision.threshold) == (0.9, 0.7)
    assert (decision.scope_score, decision.scope_threshold) == (0.8, 0.35)
    assert decision.nearest == "a known example"


def test_confidence_at_the_threshold_is_kept_and_scope_at_the_threshold_is_in() -> None:
    at_both = FixedScorer(confidence=0.7, scope=0.35, local_scope=0.35)
    assert decide_route(PLAIN, HYBRID, at_both, UP).path is SLM


@pytest.mark.parametrize(
    ("policy", "request_facts", "scorer", "reason"),
    [
        (LOCAL_ONLY, PLAIN, None, "mode LocalOnly"),
        (LLM_ONLY, PLAIN, None, "mode LLMOnly"),
        (HYBRID, TO_SLM, None, "model slm"),
        (HYBRID, SLM_TALK, None, "conversation"),
        (HYBRID, LOCAL_KEY, None, "local-only key"),
        (LLM_ONLY, LOCAL_KEY, None, "local-only key, mode LLMOnly"),
        (HYBRID, IMAGE, None, "images are not read by the slm"),
        (HYBRID, PLAIN, None, "no policy"),
        (HYBRID, PLAIN, OUT, "scope 0.100 < 0.350"),
        (KEEP_LOCAL, PLAIN, OUT, "scope 0.100 < 0.350, kept local"),
        (HYBRID, PLAIN, ESCALATED, "confidence 0.200 < 0.700 (local 0.600, remote 0.400)"),
    ],
)
def test_reasons_are_one_line_in_the_gates_terms(
    policy: LivePolicy, request_facts: RequestFacts, scorer: Scorer | None, reason: str
) -> None:
    assert decide_route(request_facts, policy, scorer, UP).reason == reason


def test_a_move_says_what_was_meant_first_and_keeps_the_numbers() -> None:
    decision = decide_route(PLAIN, HYBRID, KEPT, SLM_DOWN)
    assert decision.reason.startswith("slm no ready replica; meant for it by confidence: confidence 0.900")
    assert decision.confidence == 0.9


@pytest.mark.parametrize("mode", Mode)
def test_an_unknown_model_is_404_in_every_mode(mode: Mode) -> None:
    decision = decide_route(request_of(model="gpt-4o"), policy_of(mode=mode), NEVER, UP)
    assert (decision.path, decision.gate) == (None, Gate.FORCED)
    assert decision.rejection is not None
    assert (decision.rejection.status, decision.rejection.code) == (404, ErrorCode.MODEL_NOT_FOUND)
    assert "'gpt-4o'" in decision.rejection.message


@pytest.mark.parametrize(("policy", "request_facts"), [(LOCAL_ONLY, TO_LLM), (LLM_ONLY, TO_SLM)])
def test_a_path_that_the_mode_forbids_cannot_be_forced(
    policy: LivePolicy, request_facts: RequestFacts
) -> None:
    rejection = decide_route(request_facts, policy, NEVER, UP).rejection
    assert rejection is not None
    assert rejection.status == 404
    assert f"while its mode is {policy.mode}" in rejection.message


@pytest.mark.parametrize("policy", [HYBRID, LLM_ONLY])
def test_a_local_only_key_may_not_ask_for_the_llm(policy: LivePolicy) -> None:
    decision = decide_route(request_of(model="llm", local_only=True), policy, NEVER, UP)
    assert (decision.path, decision.gate) == (None, Gate.FORCED)
    assert decision.rejection is not None
    assert (decision.rejection.status, decision.rejection.code) == (403, ErrorCode.LOCAL_ONLY_KEY)


def test_unavailable_and_out_of_scope_have_their_codes() -> None:
    unavailable = decide_route(PLAIN, HYBRID, OUT, LLM_DOWN).rejection
    refused = decide_route(PLAIN, REJECT, OUT, UP).rejection
    assert unavailable is not None
    assert refused is not None
    assert unavailable.code is ErrorCode.PATH_UNAVAILABLE
    assert "no upstream answers" in unavailable.message
    assert refused.code is ErrorCode.OUT_OF_SCOPE


@pytest.mark.parametrize(
    ("outcome", "gate"),
    [
        (Outcome.THROTTLED, Gate.OVERFLOW),
        (Outcome.UPSTREAM_ERROR, Gate.HEALTH),
        (Outcome.TIMEOUT, Gate.HEALTH),
        (Outcome.OK, None),
        (Outcome.CLIENT_ERROR, None),
        (Outcome.REJECTED, None),
        (Outcome.CUT, None),
        (Outcome.CANCELLED, None),
        (Outcome.LOST, None),
        (Outcome.UNAFFORDABLE, None),
    ],
)
def test_a_failed_slm_fails_over_by_outcome(outcome: Outcome, gate: Gate | None) -> None:
    decision = decide_route(PLAIN, HYBRID, KEPT, UP)
    after = plan_failover(decision, outcome)
    if gate is None:
        assert after is None
    else:
        assert after is not None
        assert (after.path, after.gate, after.fallbacks) == (LLM, gate, ())
        assert after.reason == f"slm failed: {outcome}; meant for it by confidence: {decision.reason}"
        assert after.confidence == decision.confidence


def test_a_throttled_llm_is_a_matter_of_health() -> None:
    after = plan_failover(decide_route(PLAIN, HYBRID, ESCALATED, UP), Outcome.THROTTLED)
    assert after is not None
    assert (after.path, after.gate) == (SLM, Gate.HEALTH)


@pytest.mark.parametrize(
    ("policy", "request_facts", "scorer", "health"),
    [
        (LOCAL_ONLY, PLAIN, None, UP),
        (HYBRID, TO_SLM, None, UP),
        (HYBRID, IMAGE, None, UP),
        (HYBRID, PLAIN, KEPT, LLM_DOWN),
        (REJECT, PLAIN, OUT, UP),
    ],
)
def test_what_has_nowhere_to_go_does_not_fail_over(
    policy: LivePolicy, request_facts: RequestFacts, scorer: Scorer | None, health: PathHealth
) -> None:
    assert plan_failover(decide_route(request_facts, policy, scorer, health), Outcome.TIMEOUT) is None


def test_a_failover_is_the_last() -> None:
    first = plan_failover(decide_route(PLAIN, HYBRID, KEPT, UP), Outcome.TIMEOUT)
    assert first is not None
    assert plan_failover(first, Outcome.TIMEOUT) is None


@pytest.mark.parametrize("code", [ErrorCode.CONTEXT_LENGTH_EXCEEDED, ErrorCode.NOT_SERVED_BY_SLM])
def test_what_the_slm_says_it_cannot_serve_is_a_matter_of_capability(code: ErrorCode) -> None:
    decision = decide_route(PLAIN, HYBRID, KEPT, UP)
    after = plan_failover(decision, Outcome.CLIENT_ERROR, code)
    assert after is not None
    assert (after.path, after.gate) == (LLM, Gate.CAPABILITY)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("The small model takes 'stop' up to 4096 bytes.", "The small model takes 'stop' up to 4096 bytes"),
        ('Failed to parse messages: Missing tool call type: {"id": "secret"}', "Failed to parse messages"),
        (None, "not_served_by_slm"),
    ],
)
def test_why_the_slm_cannot_serve_it_is_said_in_its_words(message: str | None, words: str) -> None:
    decision = decide_route(PLAIN, HYBRID, KEPT, UP)
    after = plan_failover(decision, Outcome.CLIENT_ERROR, ErrorCode.NOT_SERVED_BY_SLM, message)
    assert after is not None
    assert after.reason.startswith(f"slm cannot serve it: {words}; meant for it by confidence")


def test_a_prompt_too_long_for_the_llm_is_the_clients_error() -> None:
    decision = decide_route(PLAIN, HYBRID, ESCALATED, UP)
    assert plan_failover(decision, Outcome.CLIENT_ERROR, ErrorCode.CONTEXT_LENGTH_EXCEEDED) is None


@pytest.mark.parametrize("path", list(PathName))
def test_what_may_not_move_is_held_for_a_path_that_just_went_down(path):
    health = PathHealth(slm_up=False, slm_restarting=True, llm_up=False, llm_restarting=True)
    forced = Mode.LOCAL_ONLY if path is PathName.SLM else Mode.LLM_ONLY

    decision = decide_route(request_of(), policy_of(mode=forced), None, health)

    assert (decision.path, decision.rejection, decision.fallbacks) == (path, None, ())
