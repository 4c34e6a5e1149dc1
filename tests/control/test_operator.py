"""The operator's process against a real API server; KubeRay's states are written by the test."""

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.api_server import ApiServer
from support.kuberay import report_applications
from support.operator_process import OperatorProcess
from support.routes import route_document

GROUP = "/apis/hybridroute.dev/v1alpha1"
GATEWAY_UP = {"router": "RUNNING", "llm-proxy": "RUNNING", "keeper": "RUNNING"}
NUMBERS = itertools.count()


@pytest.fixture
def namespace(cluster: ApiServer) -> Iterator[str]:
    """A namespace of the test's own, without routes at its end."""
    name = f"test-{next(NUMBERS)}"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    assert cluster.apply(body, f"/api/v1/namespaces/{name}")[0] == 201
    yield name
    status, _ = cluster.request("DELETE", routes(name), None)
    assert status == 200


def routes(namespace: str) -> str:
    return f"{GROUP}/namespaces/{namespace}/hybridroutes"


def apply_route(cluster: ApiServer, namespace: str, changes: dict[str, Any] | None = None) -> str:
    status, answer = cluster.apply(route_document(changes), f"{routes(namespace)}/support")
    assert status in (200, 201), answer["message"]
    return f"{routes(namespace)}/support"


def conditions(route: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found = (route.get("status") or {}).get("conditions") or []
    return {item["type"]: (item["status"], item["reason"]) for item in found}


def has(kind: str, status: str, reason: str) -> Any:
    return lambda code, route: code == 200 and conditions(route).get(kind) == (status, reason)


def live_policy(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/configmaps/support-live"


def ray_service(namespace: str, part: str) -> str:
    return f"/apis/ray.io/v1/namespaces/{namespace}/rayservices/support-{part}"


def make_ready(cluster: ApiServer, namespace: str, changes: dict[str, Any] | None = None) -> str:
    route = apply_route(cluster, namespace, changes)
    for part, states in (("gateway", GATEWAY_UP), ("slm", {"slm": "RUNNING"})):
        cluster.wait_for(ray_service(namespace, part), lambda code, _: code == 200)
        report_applications(cluster, namespace, f"support-{part}", states)
    cluster.wait_for(route, has("Ready", "True", "Serving"))
    return route


def test_an_applied_route_becomes_ready(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    route = apply_route(cluster, namespace)
    cluster.wait_for(route, has("Accepted", "True", "Valid"))
    cluster.wait_for(route, has("Ready", "Unknown", "Starting"))
    cluster.wait_for(ray_service(namespace, "gateway"), lambda code, _: code == 200)
    report_applications(cluster, namespace, "support-gateway", GATEWAY_UP)
    cluster.wait_for(route, has("Ready", "True", "LLMCarries"))
    report_applications(cluster, namespace, "support-slm", {"slm": "RUNNING"})
    served = cluster.wait_for(route, has("Ready", "True", "Serving"))
    assert served["status"]["url"] == f"http://support-gateway-serve-svc.{namespace}.svc:8000/v1"
    assert served["status"]["observedGeneration"] == 1
    assert "finalizers" not in served["metadata"]
    assert "annotations" not in served["metadata"]
    rows = cluster.kubectl("get", "hr", "-n", namespace, "--no-headers").split()
    assert rows[:2] == ["support", "True"]
    events = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].message}")
    assert "RayService support-slm was applied because it does not exist" in events
    assert "Ready is True: Serving" in events


def touch(operator: OperatorProcess, cluster: ApiServer, namespace: str, value: str) -> None:
    """Make an event that changes nothing of ours, and wait for the round that it causes."""
    rounds = operator.metric("hybridroute_operator_rounds_total")
    label = {"metadata": {"labels": {"somebody": value}}}
    status, _ = cluster.request("PATCH", live_policy(namespace), label, kind="application/merge-patch+json")
    assert status == 200
    deadline = time.monotonic() + 20
    while operator.metric("hybridroute_operator_rounds_total") <= rounds:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_route_at_rest_costs_no_write(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    make_ready(cluster, namespace)
    settled = cluster.wait_for(f"{routes(namespace)}/support", has("Degraded", "False", "Serving"))
    touch(operator, cluster, namespace, "first")  # the events of the last round are out after it
    writes = operator.writes()
    for number in range(3):
        touch(operator, cluster, namespace, str(number))
    assert operator.writes() == writes
    _, route = cluster.request("GET", f"{routes(namespace)}/support")
    assert route["metadata"]["resourceVersion"] == settled["metadata"]["resourceVersion"]


def test_children_that_are_edited_or_deleted_are_repaired(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    make_ready(cluster, namespace)
    path = live_policy(namespace)
    _, before = cluster.request("GET", path)
    cluster.request("PATCH", path, {"data": {"live.json": "{}"}}, kind="application/merge-patch+json")
    cluster.wait_for(path, lambda _, item: item["data"] == before["data"], seconds=10)
    uid = before["metadata"]["uid"]
    assert cluster.request("DELETE", path)[0] == 200
    cluster.wait_for(path, lambda code, item: code == 200 and item["metadata"]["uid"] != uid, seconds=10)
    service = ray_service(namespace, "slm")
    edit = {"spec": {"serveConfigV2": "applications: []"}}
    cluster.request("PATCH", service, edit, kind="application/merge-patch+json")
    cluster.wait_for(service, lambda _, item: "llamacpp" in item["spec"]["serveConfigV2"], seconds=10)
    uid = cluster.request("GET", service)[1]["metadata"]["uid"]
    assert cluster.request("DELETE", service)[0] == 200
    cluster.wait_for(service, lambda code, item: code == 200 and item["metadata"]["uid"] != uid, seconds=10)


def test_a_live_change_arrives_and_an_slm_image_recreates(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    make_ready(cluster, namespace)
    gateway = cluster.request("GET", ray_service(namespace, "gateway"))[1]["metadata"]
    slm = cluster.request("GET", ray_service(namespace, "slm"))[1]["metadata"]
    apply_route(cluster, namespace, {"spec": {"mode": "LLMOnly", "slm": {"image": "registry/slm:2"}}})
    cluster.wait_for(
        live_policy(namespace), lambda _, item: '"LLMOnly"' in item["data"]["live.json"], seconds=10
    )
    after = cluster.wait_for(
        ray_service(namespace, "slm"),
        lambda code, item: code == 200 and item["metadata"]["uid"] != slm["uid"],
    )
    head = after["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert head["image"] == "registry/slm:2"
    again = cluster.request("GET", ray_service(namespace, "gateway"))[1]["metadata"]
    assert again["uid"] == gateway["uid"]
    assert again["generation"] == gateway["generation"]


def test_a_missing_secret_is_said_and_heals(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    credentials = {"spec": {"llm": {"upstreams": [{"credentials": {"secretName": "provider"}}]}}}
    route = apply_route(cluster, namespace, credentials)
    told = cluster.wait_for(route, has("LLMReady", "False", "CredentialsMissing"))
    [condition] = [c for c in told["status"]["conditions"] if c["type"] == "LLMReady"]
    assert condition["message"] == "Secret provider of upstream primary does not exist"
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "provider"},
        "stringData": {"apiKey": "x"},
    }
    assert cluster.apply(secret, f"/api/v1/namespaces/{namespace}/secrets/provider")[0] == 201
    cluster.wait_for(ray_service(namespace, "gateway"), lambda code, _: code == 200)
    report_applications(cluster, namespace, "support-gateway", GATEWAY_UP)
    cluster.wait_for(route, has("LLMReady", "True", "ReplicasUp"))


def test_what_the_api_server_could_not_check_is_refused_in_a_condition(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    both = {"spec": {"routing": {"examples": {"local": ["Balance"], "remote": ["balance"]}}}}
    route = apply_route(cluster, namespace, both)
    told = cluster.wait_for(route, has("Accepted", "False", "Invalid"))
    [condition] = [c for c in told["status"]["conditions"] if c["type"] == "Accepted"]
    assert condition["message"] == (
        "spec.routing.examples.remote.0 is also a local example: keep it in one of the two lists"
    )
    apply_route(cluster, namespace, {"spec": {"routing": {"examples": {"local": ["Balance"]}}}})
    cluster.wait_for(route, has("Accepted", "True", "Valid"))


def test_an_object_of_somebody_else_is_left_alone(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "support-live"},
        "data": {"a": "b"},
    }
    assert cluster.apply(theirs, live_policy(namespace))[0] == 201
    route = apply_route(cluster, namespace)
    cluster.wait_for(route, has("Accepted", "False", "NameTaken"))
    assert cluster.request("GET", live_policy(namespace))[1]["data"] == {"a": "b"}


def test_a_deleted_route_leaves_nothing(
    operator: OperatorProcess, cluster: ApiServer, namespace: str
) -> None:
    route = make_ready(cluster, namespace)
    label = "hybridroute.dev/route=support"
    kinds = ["serviceaccounts", "roles", "rolebindings", "configmaps", "secrets", "networkpolicies"]
    kinds += ["poddisruptionbudgets", "rayservices"]
    command = ["get", ",".join(kinds), "-n", namespace, "-l", label, "-o", "name"]
    assert len(cluster.kubectl(*command).split()) == 14
    assert cluster.request("DELETE", route)[0] == 200
    deadline = time.monotonic() + 60
    while left := cluster.kubectl(*command).split():
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


Start = Callable[..., OperatorProcess]


def test_what_changed_while_the_operator_was_away_is_caught_up(
    start_operator: Start, cluster: ApiServer, namespace: str
) -> None:
    first = start_operator("--no-leader-election")
    make_ready(cluster, namespace)
    first.kill()
    apply_route(cluster, namespace, {"spec": {"mode": "LLMOnly"}})
    start_operator("--no-leader-election")
    cluster.wait_for(live_policy(namespace), lambda _, item: '"LLMOnly"' in item["data"]["live.json"])


def test_a_second_replica_takes_over_when_the_leader_is_killed(
    start_operator: Start, cluster: ApiServer, namespace: str
) -> None:
    first = start_operator(identity="first")
    first.wait_until_leading()
    make_ready(cluster, namespace)
    second = start_operator(identity="second")
    assert second.metric("hybridroute_operator_leading") == 0
    first.kill()
    apply_route(cluster, namespace, {"spec": {"mode": "LLMOnly"}})
    second.wait_until_leading()
    cluster.wait_for(live_policy(namespace), lambda _, item: '"LLMOnly"' in item["data"]["live.json"])
    assert second.stop() == 0
