"""What a route cannot be given ends in a condition or an event with these words, and heals when it can."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api_server import ApiServer, run_api_server
from support.children import read_children
from support.crd_cases import serve_definition
from support.kuberay import serve_kuberay
from support.operator_process import OperatorProcess, bind_operator_rights
from support.route_world import RouteWorld
from support.routes import route_document
from support.transitions import MISGUIDED

MONITORS = "/apis/monitoring.coreos.com/v1/namespaces/{}/podmonitors"
FINALIZER = "ray.io/rayservice-finalizer"


def condition(kind: str, status: str, reason: str, message: str) -> Callable[[int, Any], bool]:
    wanted = (status, reason, message)

    def holds(_: int, route: dict[str, Any]) -> bool:
        found = (route.get("status") or {}).get("conditions") or ()
        return [(c["status"], c["reason"], c["message"]) for c in found if c["type"] == kind] == [wanted]

    return holds


@pytest.fixture
def bare_cluster(cluster: ApiServer, tmp_path: Path) -> Iterator[ApiServer]:
    """A cluster without KubeRay; `cluster` is asked for its machinery, or for being skipped."""
    with run_api_server(tmp_path) as server:
        serve_definition(server)
        bind_operator_rights(server)
        yield server


def serve_pod_monitors(cluster: ApiServer) -> None:
    """Install the kind, as Prometheus' operator does."""
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "podmonitors.monitoring.coreos.com",
            # The API server keeps this group for those whose definitions were reviewed.
            "annotations": {"api-approved.kubernetes.io": "https://github.com/prometheus-operator"},
        },
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
            "scope": "Namespaced",
            "versions": [version],
        },
    }
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/podmonitors.monitoring.coreos.com"
    status, answer = cluster.apply(definition, path)
    assert status == 201, answer["message"]
    cluster.wait_for(MONITORS.format("default"), lambda code, _: code == 200)


@pytest.mark.timeout(900)
def test_kinds_that_come_later_are_used_without_a_restart(bare_cluster: ApiServer, tmp_path: Path) -> None:
    operator = OperatorProcess(bare_cluster, tmp_path / "operator.log", "--no-leader-election")
    try:
        world = RouteWorld(bare_cluster, "bare")
        assert world.apply(route_document())[0] == 201
        text = "the cluster does not know the kind RayService: install KubeRay"
        for kind in ("RouterReady", "SLMReady", "LLMReady"):
            bare_cluster.wait_for(world.path, condition(kind, "False", "KubeRayMissing", text))
        serve_kuberay(bare_cluster)
        bare_cluster.wait_for(world.path, condition("RouterReady", "Unknown", "Starting", ""))
        kinds = {key.kind for key in read_children(bare_cluster, world.namespace)}
        assert "RayService" in kinds
        assert "PodMonitor" not in kinds
        serve_pod_monitors(bare_cluster)
        made = MONITORS.format(world.namespace) + "/support-gateway"
        bare_cluster.wait_for(made, lambda code, _: code == 200)
    finally:
        operator.kill()


def test_a_refused_route_is_repaired(operator: OperatorProcess, cluster: ApiServer) -> None:
    world = RouteWorld(cluster, "refused")
    assert world.apply(route_document())[0] == 201
    world.wait_until_seen(1)
    served = world.children()
    status, answer = world.apply(route_document(MISGUIDED[3]))
    assert status == 200, answer["message"]
    assert world.wait_until_seen(2) == (
        False,
        "spec.llm.upstreams[0].credentials has no secretName, and a cluster reads keys from Secrets alone:"
        " make a Secret and name it",
    )
    live = f"/api/v1/namespaces/{world.namespace}/configmaps/support-live"
    assert cluster.request("DELETE", live)[0] == 200
    world.wait_until_children_are(served)


def test_two_routes_of_one_name_in_two_namespaces_do_not_meet(
    operator: OperatorProcess, cluster: ApiServer
) -> None:
    one, two = RouteWorld(cluster, "one"), RouteWorld(cluster, "two")
    for world in (one, two):
        assert world.apply(route_document())[0] == 201
        assert world.wait_until_seen(1) == (True, "")
    assert one.children() == two.children()
    assert cluster.request("DELETE", one.path)[0] == 200
    one.wait_until(lambda: one.children() == {}, one.children)
    assert len(two.children()) == 14


def test_a_binding_whose_role_was_changed_is_made_anew(operator: OperatorProcess, cluster: ApiServer) -> None:
    """A RoleBinding's role is a field that nobody can change: the API server refuses every apply of it."""
    world = RouteWorld(cluster, "binding")
    assert world.apply(route_document())[0] == 201
    world.wait_until_seen(1)
    served = world.children()
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}/rolebindings/support-gateway"
    _, binding = cluster.request("GET", path)
    kept = {key: binding["metadata"][key] for key in ("name", "labels", "annotations", "ownerReferences")}
    assert cluster.request("DELETE", path)[0] == 200
    other = binding | {"metadata": kept, "roleRef": binding["roleRef"] | {"name": "other"}}
    status, _ = cluster.request("POST", path.rsplit("/", 1)[0], other)
    if status == 409:  # the operator was quicker
        assert cluster.request("DELETE", path)[0] == 200
        cluster.request("POST", path.rsplit("/", 1)[0], other)
    world.wait_until_children_are(served)


def test_a_deletion_that_waits_for_kuberay_says_so(operator: OperatorProcess, cluster: ApiServer) -> None:
    world = RouteWorld(cluster, "leaving")
    assert world.apply(route_document())[0] == 201
    world.wait_until_seen(1)
    service = f"/apis/ray.io/v1/namespaces/{world.namespace}/rayservices/support-slm"
    cluster.wait_for(service, lambda code, _: code == 200)
    merge = "application/merge-patch+json"
    assert cluster.request("PATCH", service, {"metadata": {"finalizers": [FINALIZER]}}, kind=merge)[0] == 200
    assert cluster.request("DELETE", world.path)[0] == 200
    text = f"RayService support-slm is being deleted and waits for {FINALIZER}, which KubeRay takes away when it runs"
    events = f"/api/v1/namespaces/{world.namespace}/events"
    cluster.wait_for(events, lambda _, found: text in [item["message"] for item in found["items"]])
    # The next route of the name waits for it, and says what for.
    assert world.apply(route_document())[0] == 201
    cluster.wait_for(world.path, condition("SLMReady", "False", "Terminating", text))
    assert cluster.request("PATCH", service, {"metadata": {"finalizers": None}}, kind=merge)[0] == 200
    cluster.wait_for(world.path, condition("SLMReady", "Unknown", "Starting", ""))
    assert len(world.children()) == 14
