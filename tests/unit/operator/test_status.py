"""The status: observation in, conditions with reasons and messages out. One row, one observation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from hybridroute_api.quantities import parse_usd
from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, Verdict
from hybridroute_api.vocabulary import Mode, PathName
from hybridroute_operator.observation import (
    BudgetState,
    GatewayState,
    GuaranteeState,
    Observation,
    PodState,
)
from hybridroute_operator.plan import Obstacle, Plan
from hybridroute_operator.references import named_objects
from hybridroute_operator.status import (
    decide_refused_status,
    decide_status,
    is_worth_writing,
    turned_conditions,
)
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.names import Part
from support.routes import merged, route_of
from support.rule_cases import second, upstream

NOW = datetime(2026, 11, 24, tzinfo=UTC)
META = {"metadata": {"namespace": "shop", "uid": "u1", "generation": 3}}
SECRET = upstream(credentials={"secretName": "provider"})
GATEWAY, SLM = ObjectKey("RayService", "support-gateway"), ObjectKey("RayService", "support-slm")
UP = {"router": "RUNNING", "llm-proxy": "RUNNING", "keeper": "RUNNING"}
NO_GPU = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def route(changes: dict[str, Any] | None = None) -> HybridRoute:
    return route_of(merged(META, changes or {}))


def service(applications: dict[str, str], message: str = "") -> dict[str, Any]:
    states = {name: {"status": word, "message": message} for name, word in applications.items()}
    return {
        "status": {"activeServiceStatus": {"applicationStatuses": states, "rayClusterName": "support-abcde"}}
    }


def observed(up: dict[str, str], slm: dict[str, str], message: str = "", **facts: Any) -> Observation:
    return Observation(children={GATEWAY: service(up, message), SLM: service(slm, message)}, **facts)


def conditions(status: HybridRouteStatus) -> dict[str, tuple[str, str]]:
    return {c.type.value: (c.status.value, c.reason) for c in status.conditions}


def message(status: HybridRouteStatus, kind: str) -> str:
    return next(c.message for c in status.conditions if c.type == kind)


pending = PodState("support-slm-worker-x", ready=False, unschedulable=NO_GPU)
no_image = PodState("support-slm-head-x", ready=False, waiting="ImagePullBackOff: Back-off pulling image")

ROWS: list[tuple[str, dict[str, Any], Observation, tuple[str, ...]]] = [
    # what, changes of the route, observation; then Ready, RouterReady, SLMReady, LLMReady, Degraded
    (
        "all up",
        {},
        observed(UP, {"slm": "RUNNING"}),
        ("True Serving", "True ReplicasUp", "True ReplicasUp", "True ReplicasUp", "False Serving"),
    ),
    (
        "nothing said yet",
        {},
        observed({}, {}),
        (
            "Unknown Starting",
            "Unknown Starting",
            "Unknown Starting",
            "Unknown Starting",
            "Unknown Starting",
        ),
    ),
    (
        "SLM on its way",
        {},
        observed(UP, {"slm": "DEPLOYING"}),
        ("True LLMCarries", "True ReplicasUp", "Unknown Starting", "True ReplicasUp", "Unknown Starting"),
    ),
    (
        "no GPU free",
        {},
        observed(UP, {}, pods={Part.SLM: (pending,)}),
        ("True LLMCarries", "True ReplicasUp", "False Unschedulable", "True ReplicasUp", "True LLMCarries"),
    ),
    (
        "no GPU free for a second replica",
        {},
        observed(UP, {"slm": "RUNNING"}, pods={Part.SLM: (pending,)}),
        ("True Serving", "True ReplicasUp", "True ReplicasUp", "True ReplicasUp", "False Serving"),
    ),
    (
        "SLM's image is missing",
        {},
        observed(UP, {}, pods={Part.SLM: (no_image,)}),
        ("True LLMCarries", "True ReplicasUp", "False PodFailed", "True ReplicasUp", "True LLMCarries"),
    ),
    (
        "SLM fails to deploy",
        {},
        observed(UP, {"slm": "DEPLOY_FAILED"}),
        ("True LLMCarries", "True ReplicasUp", "False DeployFailed", "True ReplicasUp", "True LLMCarries"),
    ),
    (
        "SLM is not needed",
        {"spec": {"mode": "LLMOnly"}},
        observed(UP, {"slm": "DEPLOY_FAILED"}),
        ("True Serving", "True ReplicasUp", "False DeployFailed", "True ReplicasUp", "False Serving"),
    ),
    (
        "Secret is missing",
        SECRET,
        observed(UP, {"slm": "RUNNING"}),
        (
            "True SLMCarries",
            "True ReplicasUp",
            "True ReplicasUp",
            "False CredentialsMissing",
            "True SLMCarries",
        ),
    ),
    (
        "Secret's key is missing",
        SECRET,
        observed(UP, {"slm": "RUNNING"}, secret_keys={"provider": frozenset({"token"})}),
        (
            "True SLMCarries",
            "True ReplicasUp",
            "True ReplicasUp",
            "False CredentialsMissing",
            "True SLMCarries",
        ),
    ),
    (
        "Secret is there",
        SECRET,
        observed(UP, {"slm": "RUNNING"}, secret_keys={"provider": frozenset({"apiKey"})}),
        ("True Serving", "True ReplicasUp", "True ReplicasUp", "True ReplicasUp", "False Serving"),
    ),
    (
        "router failed",
        {},
        observed(UP | {"router": "UNHEALTHY"}, {"slm": "RUNNING"}),
        ("False RouterDown", "False DeployFailed", "True ReplicasUp", "True ReplicasUp", "True RouterDown"),
    ),
]
KINDS = ("Ready", "RouterReady", "SLMReady", "LLMReady", "Degraded")


@pytest.mark.parametrize(("changes", "facts", "expected"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_conditions(changes: dict[str, Any], facts: Observation, expected: tuple[str, ...]) -> None:
    status = decide_status(route(changes), Plan(()), facts, None, NOW)
    found = conditions(status)
    assert tuple(" ".join(found[kind]) for kind in KINDS) == expected
    assert found["Accepted"] == ("True", "Valid")
    assert status.observed_generation == 3
    assert {c.observed_generation for c in status.conditions} == {3}


MESSAGES: list[tuple[dict[str, Any], Observation, str, str]] = [
    (
        {},
        observed(UP, {}, pods={Part.SLM: (pending,)}),
        "SLMReady",
        f"pod support-slm-worker-x waits for a node: {NO_GPU}",
    ),
    (
        {},
        observed(UP, {}, pods={Part.SLM: (no_image,)}),
        "SLMReady",
        "pod support-slm-head-x does not start: ImagePullBackOff: Back-off pulling image",
    ),
    ({}, observed(UP, {"slm": "UNHEALTHY"}, "out\n  of memory"), "SLMReady", "out of memory"),
    (SECRET, observed(UP, {}), "LLMReady", "Secret provider of upstream primary does not exist"),
    (
        SECRET,
        observed(UP, {}, secret_keys={"provider": frozenset()}),
        "LLMReady",
        "Secret provider of upstream primary has no key apiKey",
    ),
    (
        {"spec": {"auth": {"apiKeysSecretName": "clients"}}},
        observed(UP, {}),
        "RouterReady",
        "Secret clients of spec.auth does not exist",
    ),
    (
        {"spec": {"auth": {"apiKeysSecretName": "clients"}}},
        observed(UP, {}, secret_keys={"clients": frozenset({"keys"})}),
        "RouterReady",
        "Secret clients of spec.auth has no key clients.yaml",
    ),
    (
        upstream(caBundleRef={"configMapName": "authorities"}),
        observed(UP, {}, config_map_keys={"authorities": frozenset({"tls.pem"})}),
        "LLMReady",
        "ConfigMap authorities of upstream primary has no key ca.crt",
    ),
    (
        merged(SECRET, upstream(caBundleRef={"secretName": "authorities"})),
        observed(UP, {}, secret_keys={"provider": frozenset({"apiKey"})}),
        "LLMReady",
        "Secret authorities of upstream primary does not exist",
    ),
]


def test_one_upstream_with_all_it_needs_is_enough() -> None:
    two = merged(SECRET, second())
    status = decide_status(route(two), Plan(()), observed(UP, {"slm": "RUNNING"}), None, NOW)
    assert conditions(status)["LLMReady"] == ("True", "ReplicasUp")


def test_what_a_route_names_is_read_once() -> None:
    named = merged(
        merged(SECRET, {"spec": {"auth": {"apiKeysSecretName": "provider"}}}),
        upstream(caBundleRef={"configMapName": "authorities"}),
    )
    assert named_objects(route(named)) == (
        ObjectKey("ConfigMap", "authorities"),
        ObjectKey("Secret", "provider"),
    )
    assert named_objects(route()) == ()


@pytest.mark.parametrize(("changes", "facts", "kind", "text"), MESSAGES, ids=[m[3][:40] for m in MESSAGES])
def test_messages_say_what_to_look_at(
    changes: dict[str, Any], facts: Observation, kind: str, text: str
) -> None:
    status = decide_status(route(changes), Plan(()), facts, None, NOW)
    assert message(status, kind) == text
    assert text in message(status, "Degraded") or text in message(status, "Ready")


def test_obstacles_become_reasons() -> None:
    gone = Obstacle(SLM, ConditionReason.TERMINATING, "it waits")
    status = decide_status(route(), Plan((), (gone,)), observed(UP, {"slm": "RUNNING"}), None, NOW)
    assert conditions(status)["SLMReady"] == ("False", "Terminating")
    taken = Obstacle(ObjectKey("ConfigMap", "support-live"), ConditionReason.NAME_TAKEN, "it is taken")
    status = decide_status(route(), Plan((), (taken,)), observed(UP, {"slm": "RUNNING"}), None, NOW)
    assert conditions(status)["Accepted"] == ("False", "NameTaken")
    assert conditions(status)["Ready"] == ("False", "NotAccepted")


def test_an_update_in_place_keeps_a_part_that_served() -> None:
    before = decide_status(route(), Plan(()), observed(UP, {"slm": "RUNNING"}), None, NOW)
    changing = observed(UP | {"router": "DEPLOYING"}, {"slm": "RUNNING"})
    assert conditions(decide_status(route(), Plan(()), changing, before, NOW))["RouterReady"][0] == "True"
    assert conditions(decide_status(route(), Plan(()), changing, None, NOW))["RouterReady"][0] == "Unknown"


def test_a_transition_has_its_time_and_keeps_it() -> None:
    first = decide_status(route(), Plan(()), observed(UP, {}), None, NOW)
    later = NOW + timedelta(minutes=1)
    second = decide_status(route(), Plan(()), observed(UP, {"slm": "RUNNING"}), first, later)
    times = {c.type.value: c.last_transition_time for c in second.conditions}
    assert times["SLMReady"] == later
    assert times["RouterReady"] == NOW


def gateway_state(
    slm_requests: int = 3, llm_requests: int = 1, budget: BudgetState | None = None
) -> GatewayState:
    return GatewayState(
        mode=Mode.HYBRID,
        policy_version="abc",
        policy_error="",
        replicas={"router": 2, "slm": 1, "llm-proxy": 1, "keeper": 1},
        requests={PathName.SLM: slm_requests, PathName.LLM: llm_requests},
        slm_nano_usd=10**9,
        slm_idle_nano_usd=2 * 10**9,
        llm_nano_usd=3 * 10**9,
        all_llm_nano_usd=5 * 10**9,
        saved_usd=Decimal(-1),
        budget=budget,
    )


@pytest.mark.parametrize(
    ("found", "states", "expected"),
    [
        (False, {"slm": "RUNNING"}, ("True LLMCarries", "Unknown NotReached", "Unknown Starting")),
        (False, {"slm": "DEPLOY_FAILED"}, ("True LLMCarries", "False DeployFailed", "True LLMCarries")),
        (True, {"slm": "RUNNING"}, ("True Serving", "True ReplicasUp", "False Serving")),
        (None, {"slm": "RUNNING"}, ("True Serving", "True ReplicasUp", "False Serving")),
    ],
)
def test_an_slm_that_no_router_finds_is_not_ready(
    found: bool | None, states: dict[str, str], expected: tuple[str, ...]
) -> None:
    facts = observed(UP, states, gateway=replace(gateway_state(), slm_found=found))
    status = decide_status(route(), Plan(()), facts, None, NOW)
    shown = conditions(status)
    assert tuple(" ".join(shown[kind]) for kind in ("Ready", "SLMReady", "Degraded")) == expected
    assert ("no router finds one" in message(status, "SLMReady")) == ("NotReached" in expected[1])


def in_upgrade(pods: dict[Part, tuple[PodState, ...]], gateway: GatewayState | None) -> Observation:
    """As KubeRay tells it: the applications of the cluster that serves are not mentioned any more."""
    told = {
        "status": {
            "activeServiceStatus": {"applicationStatuses": None, "rayClusterName": "support-old"},
            "pendingServiceStatus": {"applicationStatuses": None, "rayClusterName": "support-new"},
        }
    }
    return Observation(children={GATEWAY: told, SLM: told}, pods=pods, gateway=gateway)


def test_what_serves_is_ready_while_another_cluster_is_on_its_way() -> None:
    serves = replace(gateway_state(), slm_found=True)
    facts = in_upgrade({Part.SLM: (pending,)}, serves)
    status = decide_status(route(), Plan(()), facts, None, NOW)
    shown = conditions(status)
    assert shown["Ready"] == ("True", "Serving")
    assert shown["Degraded"] == ("False", "Serving")
    assert message(status, "RouterReady") == "another cluster is on its way"
    waits = f"another cluster is on its way: pod support-slm-worker-x waits for a node: {NO_GPU}"
    assert message(status, "SLMReady") == waits


def test_in_an_upgrade_what_does_not_answer_is_judged_as_ever() -> None:
    silent = conditions(decide_status(route(), Plan(()), in_upgrade({}, None), None, NOW))
    assert silent["Ready"] == ("Unknown", "Starting")
    lost = replace(gateway_state(), slm_found=False)
    facts = in_upgrade({Part.SLM: (pending,)}, lost)
    shown = conditions(decide_status(route(), Plan(()), facts, None, NOW))
    assert shown["SLMReady"] == ("False", "Unschedulable")
    assert shown["Ready"] == ("True", "LLMCarries")


BUDGETED = {"spec": {"budget": {"limitUSD": "50"}}}
RESETS = NOW + timedelta(hours=5)


def spent(usd: str, *, limit: str = "50", past_unknown: bool = False) -> BudgetState:
    return BudgetState(parse_usd(limit), parse_usd(usd), 10**8, RESETS, past_unknown)


BUDGETS: list[tuple[str, BudgetState | None, str, str]] = [
    ("not seen yet", None, "Unknown Starting", ""),
    ("nothing spent", spent("0"), "True WithinBudget", ""),
    ("one lease left", spent("49.5"), "True WithinBudget", ""),
    (
        "less than a lease left",
        spent("49.500000001"),
        "False BudgetExhausted",
        "USD 49.500000001 of 50 are spent; money comes back at 2026-11-24T05:00:00Z",
    ),
    (
        "limit cut below what was spent",
        spent("8", limit="2"),
        "False BudgetExhausted",
        "USD 8 of 2 are spent; money comes back at 2026-11-24T05:00:00Z",
    ),
    (
        "limit of nothing",
        spent("0", limit="0"),
        "False BudgetExhausted",
        "USD 0 of 0 are spent; money comes back at 2026-11-24T05:00:00Z",
    ),
    (
        "ledger lost",
        spent("0", past_unknown=True),
        "False PastUnknown",
        "the ledger was lost, so what was spent before is not known and counts as all;"
        " money comes back at 2026-11-24T05:00:00Z",
    ),
]


@pytest.mark.parametrize(
    ("budget", "verdict", "text"), [row[1:] for row in BUDGETS], ids=[r[0] for r in BUDGETS]
)
def test_budget_available_and_ready_do_not_meet(budget: BudgetState | None, verdict: str, text: str) -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state(budget=budget))
    status = decide_status(route(BUDGETED), Plan(()), facts, None, NOW)
    assert " ".join(conditions(status)["BudgetAvailable"]) == verdict
    assert message(status, "BudgetAvailable") == text
    assert conditions(status)["Ready"] == ("True", "Serving")
    assert conditions(status)["Degraded"] == ("False", "Serving")
    assert (message(status, "Ready"), message(status, "Degraded")) == ("", "")


def test_a_budget_is_shown_and_outlives_the_keepers_silence() -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state(budget=spent("12.5")))
    status = decide_status(route(BUDGETED), Plan(()), facts, None, NOW)
    shown = status.model_dump(mode="json", by_alias=True)
    assert shown["spentUSD"] == "12.5"
    assert shown["budget"] == {
        "limitUSD": "50",
        "spentUSD": "12.5",
        "reservedUSD": "0.1",
        "resetsAt": "2026-11-24T05:00:00Z",
    }
    silent = decide_status(route(BUDGETED), Plan(()), observed(UP, {"slm": "RUNNING"}), status, NOW)
    assert silent == status
    free = decide_status(route(), Plan(()), facts, status, NOW)
    assert (free.budget, conditions(free)["BudgetAvailable"]) == (None, ("True", "NotBudgeted"))
    assert free.model_dump(mode="json", by_alias=True)["spentUSD"] == "6"


def test_without_a_calibrated_policy_there_is_no_promise() -> None:
    status = decide_status(route(), Plan(()), observed(UP, {"slm": "RUNNING"}), None, NOW)
    assert conditions(status)["GuaranteeValid"] == ("Unknown", "NoPolicy")


POLICY = {"spec": {"routing": {"policy": {"configMapName": "support-policy"}}}}
HELD = {"config_map_keys": {"support-policy": frozenset({"policy.artifact"})}}


def promised(status: str, reason: str, told: str = "", **facts: Any) -> GatewayState:
    verdict = Verdict(ConditionStatus(status), ConditionReason(reason))
    return replace(gateway_state(), guarantee=GuaranteeState(verdict, told), policy_digest="abc", **facts)


def test_the_promise_is_the_keepers_verdict_and_outlives_its_silence() -> None:
    told = "slm was a and is b"
    facts = observed(UP, {"slm": "RUNNING"}, gateway=promised("False", "ModelsChanged", told), **HELD)
    status = decide_status(route(POLICY), Plan(()), facts, None, NOW)
    assert conditions(status)["GuaranteeValid"] == ("False", "ModelsChanged")
    assert message(status, "GuaranteeValid") == told
    assert status.model_dump(mode="json", by_alias=True)["policyDigest"] == "abc"
    silent = decide_status(route(POLICY), Plan(()), observed(UP, {"slm": "RUNNING"}, **HELD), status, NOW)
    assert silent == status
    without = decide_status(route(), Plan(()), facts, status, NOW)
    assert conditions(without)["GuaranteeValid"] == ("Unknown", "NoPolicy")


def test_a_policy_that_is_not_in_force_is_told_once_beside_the_last_good_ones_verdict() -> None:
    gateway = promised("True", "Certified", "within risk", policy_problem="the artifact is damaged")
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway, **HELD)
    status = decide_status(route(POLICY), Plan(()), facts, None, NOW)
    assert conditions(status)["GuaranteeValid"] == ("True", "Certified")
    told = "within risk; the policy that the route names is not in force: the artifact is damaged"
    assert message(status, "GuaranteeValid") == told
    missing = observed(UP, {"slm": "RUNNING"})
    first = decide_status(route(POLICY), Plan(()), missing, None, NOW)
    assert conditions(first)["GuaranteeValid"] == ("Unknown", "Starting")
    told = "ConfigMap support-policy of spec.routing.policy does not exist"
    assert message(first, "GuaranteeValid") == told
    again = decide_status(route(POLICY), Plan(()), missing, first, NOW)
    assert message(again, "GuaranteeValid") == told


def test_a_keeper_that_has_not_seen_the_policy_is_starting() -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=promised("Unknown", "NoPolicy"), **HELD)
    status = decide_status(route(POLICY), Plan(()), facts, None, NOW)
    assert conditions(status)["GuaranteeValid"] == ("Unknown", "Starting")


def test_figures_come_from_the_keeper_and_outlive_its_silence() -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state())
    status = decide_status(route(), Plan(()), facts, None, NOW)
    shown = status.model_dump(mode="json", by_alias=True)
    assert shown["url"] == "http://support-gateway-serve-svc.shop.svc:8000/v1"
    assert shown["slmPercent"] == 75
    assert shown["paths"]["router"] == {"readyReplicas": 2, "replicas": 2}
    assert shown["cost"]["totalUSD"] == "6"
    assert shown["cost"]["savedUSD"] == "-1"
    silent = decide_status(route(), Plan(()), observed(UP, {"slm": "RUNNING"}), status, NOW)
    assert silent == status


def test_no_request_yet_is_no_share() -> None:
    facts = observed(UP, {}, gateway=gateway_state(0, 0))
    assert decide_status(route(), Plan(()), facts, None, NOW).slm_percent is None


def test_a_refused_route_says_why_and_keeps_its_figures() -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state())
    before = decide_status(route(), Plan(()), facts, None, NOW)
    status = decide_refused_status("spec.slm is wrong: change it", Mode.HYBRID, 4, before, NOW)
    assert conditions(status)["Accepted"] == ("False", "Invalid")
    assert message(status, "Accepted") == "spec.slm is wrong: change it"
    assert message(status, "Ready") == "spec.slm is wrong: change it"
    assert conditions(status)["Degraded"] == ("False", "NotAccepted")
    assert (status.cost, status.observed_generation) == (before.cost, 4)


def test_only_what_a_person_would_notice_is_written_at_once() -> None:
    facts = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state())
    first = decide_status(route(), Plan(()), facts, None, NOW)
    more = observed(UP, {"slm": "RUNNING"}, gateway=gateway_state(slm_requests=900))
    figures = decide_status(route(), Plan(()), more, first, NOW)
    down = decide_status(route(), Plan(()), observed(UP, {"slm": "UNHEALTHY"}), first, NOW)
    soon, late = timedelta(seconds=29), timedelta(seconds=30)
    assert is_worth_writing(None, first, since_write=soon)
    assert not is_worth_writing(first, first, since_write=late)
    assert not is_worth_writing(first, figures, since_write=soon)
    assert is_worth_writing(first, figures, since_write=late)
    assert is_worth_writing(first, down, since_write=timedelta(0))


def test_a_turn_is_told_once() -> None:
    first = decide_status(route(), Plan(()), observed(UP, {"slm": "RUNNING"}), None, NOW)
    down = decide_status(route(), Plan(()), observed(UP, {"slm": "UNHEALTHY"}), first, NOW)
    assert [c.type.value for c in turned_conditions(first, down)] == ["Ready", "SLMReady", "Degraded"]
    assert turned_conditions(down, down) == ()


PATHS = {"router": 2, "slm": 1, "llm": 1}


def seen_before(**replicas: int) -> HybridRouteStatus:
    counts = PATHS | replicas
    paths = {name: {"readyReplicas": count, "replicas": count} for name, count in counts.items()}
    return HybridRouteStatus.model_validate({"paths": paths})


SCALED = {"spec": {"slm": {"scaling": {"minReplicas": 1, "maxReplicas": 4, "targetOngoingRequests": 8}}}}
SCALINGS: list[tuple[str, int, int, dict[str, str], str]] = [
    # what, SLM's replicas before, after, its application, reason
    (
        "grown",
        1,
        3,
        {"slm": "RUNNING"},
        "more requests at once than targetOngoingRequests, 8 a replica, asks for",
    ),
    (
        "shrunk",
        3,
        1,
        {"slm": "RUNNING"},
        "fewer requests at once than targetOngoingRequests, 8 a replica, asks for",
    ),
    ("lost", 1, 0, {"slm": "RUNNING"}, "replicas were lost: minReplicas is 1"),
    ("back", 0, 1, {"slm": "RUNNING"}, "replicas came up to minReplicas, 1"),
    ("bounded", 6, 4, {"slm": "RUNNING"}, "maxReplicas was lowered to 4"),
    ("rolled", 1, 2, {"slm": "DEPLOYING"}, "Serve is bringing the application to another state"),
]


@pytest.mark.parametrize(
    ("before", "after", "slm", "reason"), [row[1:] for row in SCALINGS], ids=[row[0] for row in SCALINGS]
)
def test_a_change_of_replicas_is_told_with_its_reason(
    before: int, after: int, slm: dict[str, str], reason: str
) -> None:
    now_seen = replace(gateway_state(), replicas={"router": 2, "slm": after, "llm-proxy": 1})
    facts = observed(UP, slm, gateway=now_seen)
    status = decide_status(route(SCALED), Plan(()), facts, seen_before(slm=before), NOW)
    [decision] = status.scaling
    assert (decision.at, decision.part, decision.before, decision.after) == (NOW, "slm", before, after)
    assert decision.reason == reason
    again = decide_status(route(SCALED), Plan(()), facts, status, NOW + timedelta(minutes=1))
    assert again.scaling == status.scaling


def test_the_last_five_decisions_are_kept_and_a_start_is_none() -> None:
    status = None
    for number in range(9):
        seen = replace(gateway_state(), replicas={"router": 2, "slm": number, "llm-proxy": 1})
        now = NOW + timedelta(minutes=number)
        status = decide_status(
            route(SCALED), Plan(()), observed(UP, {"slm": "RUNNING"}, gateway=seen), status, now
        )
        if number == 0:
            assert status.scaling == ()
    assert status is not None
    assert [decision.after for decision in status.scaling] == [8, 7, 6, 5, 4]


def test_new_decisions_alone_are_written_with_the_figures() -> None:
    before, after = seen_before(), seen_before(slm=3)
    assert not is_worth_writing(before, after, since_write=timedelta(seconds=29))
    assert is_worth_writing(before, after, since_write=timedelta(seconds=30))


@pytest.mark.parametrize(
    ("down", "expected"),
    [
        ({"primary", "second"}, ("False", "UpstreamsDown")),
        ({"primary"}, ("True", "ReplicasUp")),
        (set(), ("True", "ReplicasUp")),
    ],
    ids=["all", "one of two", "none"],
)
def test_the_llm_is_ready_while_one_upstream_is_up(down: set[str], expected: tuple[str, str]) -> None:
    seen = replace(gateway_state(), down_upstreams=frozenset(down))
    facts = observed(UP, {"slm": "RUNNING"}, gateway=seen)
    status = decide_status(route(second()), Plan(()), facts, None, NOW)
    assert conditions(status)["LLMReady"] == expected
    if expected[0] == "False":
        assert conditions(status)["Ready"] == ("True", "SLMCarries")
        assert message(status, "LLMReady") == (
            "every replica of the LLM proxy has found these upstreams down: primary, second"
        )
