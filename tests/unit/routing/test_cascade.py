"""What the cascade looks at, and what it makes of a margin."""

import pytest
from msgspec.structs import replace

from hybridroute_api.records import CascadeCheck
from hybridroute_api.vocabulary import CascadeVerdict, Gate, PathName
from hybridroute_serve.routing.cascade import (
    describe_check,
    escalate,
    is_for_cascade,
    judge_margin,
    let_stand,
    read_margin,
)
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision

FACTS = RequestFacts(requested_model="hybridroute", text="x", estimated_prompt_tokens=1)
KEPT = RouteDecision(
    PathName.SLM,
    Gate.CONFIDENCE,
    "confidence 0.900 >= 0.700",
    confidence=0.9,
    threshold=0.7,
    fallbacks=(PathName.LLM,),
)


def test_a_kept_plain_request_is_looked_at() -> None:
    assert is_for_cascade(KEPT, FACTS)
    assert is_for_cascade(replace(KEPT, gate=Gate.SCOPE), FACTS)


@pytest.mark.parametrize(
    ("decision", "facts"),
    [
        (replace(KEPT, path=PathName.LLM, fallbacks=(PathName.SLM,)), FACTS),
        (replace(KEPT, fallbacks=()), FACTS),
        *[
            (replace(KEPT, gate=gate), FACTS)
            for gate in (Gate.FORCED, Gate.HEALTH, Gate.OVERFLOW, Gate.BUDGET, Gate.CAPABILITY, Gate.DRIFT)
        ],
        (KEPT, replace(FACTS, plain=False)),
        (KEPT, replace(FACTS, tools=True)),
    ],
)
def test_what_is_not_looked_at(decision: RouteDecision, facts: RequestFacts) -> None:
    assert not is_for_cascade(decision, facts)


def test_a_header_becomes_a_check() -> None:
    assert read_margin("0.412000 12", 0.6) == CascadeCheck(CascadeVerdict.PASSED, 0.6, 0.412, 12)


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("no logprobs", "no logprobs"),
        (None, "no margin was sent"),
        ("0.4", "0.4"),
        ("", "no margin was sent"),
    ],
)
def test_a_header_without_a_margin_is_unscored(said: str | None, detail: str) -> None:
    check = read_margin(said, 0.6)
    assert check == CascadeCheck(CascadeVerdict.UNSCORED, 0.6, detail=detail)
    assert judge_margin(check, may_escalate=True) == check
    assert describe_check(check) == f"unscored: {detail}"


@pytest.mark.parametrize(
    ("margin", "may_escalate", "verdict"),
    [
        (0.599, True, CascadeVerdict.ESCALATED),
        (0.599, False, CascadeVerdict.CAPPED),
        (0.6, True, CascadeVerdict.PASSED),
        (0.6, False, CascadeVerdict.PASSED),
    ],
)
def test_the_verdict(margin: float, may_escalate: bool, verdict: CascadeVerdict) -> None:
    check = CascadeCheck(CascadeVerdict.PASSED, 0.6, margin, 16)
    assert judge_margin(check, may_escalate=may_escalate).verdict is verdict


def test_the_escalated_decision_names_both_numbers_and_the_gate_before() -> None:
    check = CascadeCheck(CascadeVerdict.ESCALATED, 0.6, 0.4123, 16)
    onward = escalate(KEPT, check)
    assert (onward.path, onward.gate, onward.fallbacks) == (PathName.LLM, Gate.CASCADE, (PathName.SLM,))
    assert onward.reason == (
        "margin 0.412 < 0.600 over 16 tokens; kept on the slm by confidence: confidence 0.900 >= 0.700"
    )
    assert (onward.confidence, onward.threshold) == (0.9, 0.7)
    assert describe_check(check) == "escalated: margin 0.412 < 0.600 over 16 tokens"
    assert describe_check(replace(check, margin=0.7, verdict=CascadeVerdict.PASSED)) == (
        "passed: margin 0.700 >= 0.600 over 16 tokens"
    )


def test_an_answer_that_stands_after_all_stands_by_its_first_gate() -> None:
    check = CascadeCheck(CascadeVerdict.ESCALATED, 0.6, 0.4123, 16)
    after = let_stand(KEPT, check, "llm timeout")
    assert (after.path, after.gate, after.fallbacks) == (PathName.SLM, Gate.CONFIDENCE, ())
    assert after.reason == ("confidence 0.900 >= 0.700; margin 0.412 < 0.600 over 16 tokens, but llm timeout")
