"""What KubeRay, the kubelet and the keeper say, as the loop reads it."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from hybridroute_api.standing import Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, Verdict
from hybridroute_api.vocabulary import PathName
from hybridroute_operator.observation import (
    AppPhase,
    AppState,
    BudgetState,
    GuaranteeState,
    active_cluster,
    parse_application_states,
    parse_gateway_state,
    parse_pod_state,
)
from hybridroute_serve.budgets.ledger import Standing
from hybridroute_serve.keeper.budget_documents import show_budgets
from hybridroute_serve.keeper.documents import show_state
from hybridroute_serve.keeper.policy_documents import show_policy

PHASES = [
    ("RUNNING", AppPhase.RUNNING),
    ("DEPLOYING", AppPhase.CHANGING),
    ("NOT_STARTED", AppPhase.CHANGING),
    ("DELETING", AppPhase.CHANGING),
    ("DEPLOY_FAILED", AppPhase.FAILED),
    ("UNHEALTHY", AppPhase.FAILED),
    ("a word of tomorrow", AppPhase.CHANGING),
]


@pytest.mark.parametrize(("word", "phase"), PHASES, ids=[row[0] for row in PHASES])
def test_application_states(word: str, phase: AppPhase) -> None:
    active = {"applicationStatuses": {"slm": {"status": word, "message": " why "}}, "rayClusterName": "a-1"}
    service = {"status": {"activeServiceStatus": active}}
    assert parse_application_states(service) == {"slm": AppState(phase, "why")}
    assert active_cluster(service) == "a-1"


@pytest.mark.parametrize(("word", "phase"), PHASES, ids=[row[0] for row in PHASES])
def test_application_states_before_the_first_cluster_serves(word: str, phase: AppPhase) -> None:
    pending = {"applicationStatuses": {"slm": {"status": word, "message": "why"}}, "rayClusterName": "a-1"}
    service = {"status": {"activeServiceStatus": {"rayClusterStatus": {}}, "pendingServiceStatus": pending}}
    expected = AppPhase.FAILED if phase is AppPhase.FAILED else AppPhase.CHANGING
    assert parse_application_states(service) == {"slm": AppState(expected, "why")}
    assert active_cluster(service) is None


def test_a_pending_cluster_says_nothing_of_the_one_that_serves() -> None:
    status = {
        "activeServiceStatus": {
            "applicationStatuses": {"slm": {"status": "RUNNING"}},
            "rayClusterName": "a-1",
        },
        "pendingServiceStatus": {
            "applicationStatuses": {"slm": {"status": "DEPLOY_FAILED"}},
            "rayClusterName": "a-2",
        },
    }
    assert parse_application_states({"status": status}) == {"slm": AppState(AppPhase.RUNNING, "")}


@pytest.mark.parametrize(
    "service", [None, {}, {"status": None}, {"status": {"activeServiceStatus": {}}}], ids=repr
)
def test_no_word_is_no_state(service: dict[str, Any] | None) -> None:
    assert parse_application_states(service) == {}
    assert active_cluster(service) is None


def pod(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": status}


def test_pod_states() -> None:
    ready = parse_pod_state(pod(conditions=[{"type": "Ready", "status": "True"}]))
    assert (ready.ready, ready.unschedulable, ready.waiting) == (True, "", "")
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no GPU"}
    assert parse_pod_state(pod(conditions=[condition])).unschedulable == "no GPU"
    creating = [{"state": {"waiting": {"reason": "ContainerCreating"}}}]
    assert parse_pod_state(pod(containerStatuses=creating)).waiting == ""
    failing = [{"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "again"}}}]
    assert parse_pod_state(pod(containerStatuses=failing)).waiting == "CrashLoopBackOff: again"
    assert parse_pod_state({"metadata": {"name": "p"}}).ready is False


def keepers_document(live_error: str | None = None) -> dict[str, Any]:
    """Return what a keeper says that has heard of nobody yet."""
    return show_state(
        route="support",
        epoch=1,
        superseded=None,
        live=None,
        live_error=live_error,
        replicas=(),
        totals={},
        now=0.0,
    )


def test_the_keepers_own_document_is_understood() -> None:
    document = keepers_document(live_error="bad")
    standing = Standing(50 * 10**9, 10**9, 5 * 10**8, 1_761_400_000.4, past_unknown=False)
    state = parse_gateway_state(document | show_budgets({"route": standing}))
    assert state.budget == BudgetState(
        50 * 10**9, 10**9, 5 * 10**8, datetime(2025, 10, 25, 13, 46, 40, tzinfo=UTC), past_unknown=False
    )
    assert (state.guarantee, state.policy_digest, state.policy_problem) == (None, "", "")
    verdict = Guarantee(GuaranteeStatus.FALSE, GuaranteeReason.DRIFTED, "drift: rang")
    promise = {
        "guarantee": msgspec.to_builtins(verdict),
        "policy": show_policy(None, None, "the artifact is damaged"),
    }
    state = parse_gateway_state(document | show_budgets({}) | promise)
    assert state.budget is None
    assert state.policy_problem == "the artifact is damaged"
    expected = Verdict(ConditionStatus.FALSE, ConditionReason.DRIFTED)
    assert state.guarantee == GuaranteeState(expected, "drift: rang")
    assert (state.mode, state.policy_version, state.policy_error) == (None, "", "bad")
    assert state.requests == {PathName.SLM: 0, PathName.LLM: 0}
    assert (state.slm_nano_usd, state.saved_usd) == (0, 0)


def test_an_upstream_is_down_when_no_replica_that_is_alive_has_its_breaker_closed() -> None:
    def replica(alive: bool, **states: str) -> dict[str, Any]:
        return {"alive": alive, "facts": {f"upstream.{name}": state for name, state in states.items()}}

    replicas = [
        replica(True, primary="open", second="open", third="closed"),
        replica(True, primary="half_open", second="closed"),
        replica(False, primary="closed"),
        {"alive": True},
    ]
    document = keepers_document()
    state = parse_gateway_state(document | show_budgets({}) | {"replicas": {"llm-proxy": replicas}})
    assert state.down_upstreams == {"primary"}


@pytest.mark.parametrize(
    ("routers", "found"),
    [
        ([], None),
        ([{"alive": True, "facts": {}}], None),
        ([{"alive": True, "facts": {"slm_ready_replicas": "0"}}], False),
        ([{"alive": False, "facts": {"slm_ready_replicas": "2"}}], None),
        (
            [
                {"alive": True, "facts": {"slm_ready_replicas": "0"}},
                {"alive": True, "facts": {"slm_ready_replicas": "1"}},
            ],
            True,
        ),
    ],
)
def test_the_slm_is_found_when_one_router_that_is_alive_finds_it(
    routers: list[dict[str, Any]], found: bool | None
) -> None:
    document = keepers_document()
    state = parse_gateway_state(document | show_budgets({}) | {"replicas": {"router": routers}})
    assert state.slm_found is found
