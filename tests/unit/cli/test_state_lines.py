"""What a person reads of the keeper's state."""

from typing import Any

from hybridroute_cli.state_lines import (
    describe_budgets,
    describe_problems,
    describe_promise,
    describe_retries,
    describe_upstreams,
)

BUDGET = {
    "limit_usd": "50.000000000",
    "spent_usd": "3.200000000",
    "reserved_usd": "0.400000000",
    "resets_at": 1764000000.0,
    "past_unknown": False,
}


def replicas(app: str, *facts: dict[str, str]) -> dict[str, Any]:
    return {"replicas": {app: [{"alive": True, "facts": each} for each in facts]}}


def test_budgets_of_the_route_and_of_clients():
    state = {"budget": BUDGET, "client_budgets": {"bot": BUDGET | {"resets_at": None, "limit_usd": "2.5"}}}

    assert describe_budgets(state) == [
        "budget USD 50: 3.2 spent, 0.4 reserved, resets 2025-11-24 16:00:00 UTC",
        "budget of client bot USD 2.5: 3.2 spent, 0.4 reserved",
    ]


def test_a_lost_past_is_said():
    assert describe_budgets({"budget": BUDGET | {"past_unknown": True}})[0].endswith(
        "; what was spent before is not known, so it counts as all"
    )


def test_nothing_is_said_of_what_is_not_there():
    assert describe_budgets({"budget": None, "client_budgets": {}}) == []
    assert describe_budgets({}) == []
    assert describe_upstreams({}) == []
    assert describe_problems({}) == []
    assert describe_retries({}) == []
    assert describe_retries(replicas("llm-proxy", {})) == []


POLICY = {
    "digest": "0123456789abcdef",
    "created": "2025-01-02",
    "problem": None,
    "threshold": 0.75,
    "why": "joint regret <= 0.0480 <= maxRisk 0.05",
}


def test_the_cascades_threshold_and_why_there_is_none():
    guarantee = {"status": "True", "reason": "Certified", "message": ""}
    for margin, line in (
        ({"threshold": 0.41234, "why": "escalates at most 10 %"}, "threshold 0.4123, escalates at most 10 %"),
        ({"threshold": None, "why": "no margins"}, "looks at nothing: no margins"),
    ):
        told = describe_promise({"policy": POLICY | {"margin": margin}, "guarantee": guarantee})
        assert told[-1] == f"cascade: {line}"
    told = describe_promise({"policy": POLICY | {"margin": None}, "guarantee": guarantee})
    assert not any(line.startswith("cascade") for line in told)


def test_the_promise_and_drift():
    guarantee = {"status": "False", "reason": "Drifted", "message": "drift: scope 1.10 of the limit"}
    drift = {"alarm": {"charts": ["scope"]}, "evidence": {"scope": 1.1, "clusters": 0.25}, "requests": 80}
    assert describe_promise({"policy": POLICY, "guarantee": guarantee, "drift": drift}) == [
        "policy 0123456789ab of 2025-01-02: threshold 0.7500; joint regret <= 0.0480 <= maxRisk 0.05",
        "GuaranteeValid False, Drifted: drift: scope 1.10 of the limit",
        "drift: an alarm is in force; clusters 0.25, scope 1.10 of the limit after 80 requests",
    ]
    held = {"status": "True", "reason": "Certified", "message": POLICY["why"]}
    assert describe_promise({"policy": POLICY, "guarantee": held, "drift": None})[1:] == [
        "GuaranteeValid True, Certified"
    ]


def test_audits():
    held = {"status": "True", "reason": "Certified", "message": POLICY["why"]}

    def said(**audit: Any) -> list[str]:
        state = {
            "policy": POLICY,
            "guarantee": held,
            "drift": {"alarm": None, "evidence": {}, "audit": audit},
        }
        return describe_promise(state)[2:]

    first = {"compared": 120, "baseline": 200, "usual_at_most": None, "stopped_at": None}
    assert said(**first | {"compared": 0}) == []
    assert said(**first) == ["audit: 120 of the 200 pairs that say what is usual"]
    assert said(**first | {"stopped_at": 5.0}) == [
        "audit: 120 of the 200 pairs that say what is usual; the dollar budget bears no audit now"
    ]
    later = {"compared": 340, "usual_at_most": 0.18, "recent": 0.12, "e_value": 0.5, "alarm_e_value": 100.0}
    assert said(**first | later) == [
        "audit: 340 pairs, 12% differ lately, at most 18% is usual; e-value 0.5 of 100"
    ]


def test_without_a_policy_nothing_is_said_of_a_promise():
    nothing = {"status": "Unknown", "reason": "NoPolicy", "message": "none"}
    assert describe_promise({"policy": None, "guarantee": nothing, "drift": None}) == []
    assert describe_promise({}) == []


def test_a_policy_that_is_not_in_force_is_a_problem():
    refused = {"policy": POLICY | {"problem": "the artifact is damaged"}}
    assert describe_problems(refused) == [
        "the calibrated policy is not in force, the last good one is: the artifact is damaged"
    ]
    assert describe_problems({"policy": {"digest": None, "problem": "no such file"}}) == [
        "the calibrated policy is not in force, and none is: no such file"
    ]


def test_breakers_are_counted_over_the_replicas_that_are_alive():
    state = replicas(
        "llm-proxy",
        {
            "upstream.primary": "open",
            "breaker_cause.primary": "no answers",
            "breaker_opened.primary": "2",
            "upstream.second": "closed",
        },
        {"upstream.primary": "closed", "breaker_opened.primary": "1", "upstream.second": "closed"},
    )
    state["replicas"]["llm-proxy"].append({"alive": False, "facts": {"upstream.primary": "half_open"}})

    assert describe_upstreams(state) == [
        "upstream primary: closed 1, open 1 (no answers); opened 3 times",
        "upstream second: closed 2",
    ]


def test_the_retry_budget_is_that_of_all_replicas():
    state = replicas(
        "llm-proxy",
        {"retry_tokens": "12.500", "retry_extra_attempts": "3", "retry_refusals": "0"},
        {"retry_tokens": "0.250", "retry_extra_attempts": "4", "retry_refusals": "9"},
    )

    assert describe_retries(state) == ["retry budget: 12.8 tokens in hand; 7 extra attempts, 9 refused"]


def test_problems_are_said_once():
    problem = {"clients_problem": "/clients.yaml: line 3: is not valid YAML"}
    state = replicas("router", problem, problem, {}) | {"live": {"error": "no such file"}}

    assert describe_problems(state) == [
        "the live policy is not in force, the last good one is: no such file",
        "the clients file is not in force, the last good one is: /clients.yaml: line 3: is not valid YAML",
    ]
