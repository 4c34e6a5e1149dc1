"""Deleting a route, and then the releases, leaves nothing behind. The tier's last file: it takes all of it away."""

import sys
from collections.abc import Callable
from pathlib import Path

from support.kind_tier import OF_THE_TESTS, Cluster

KINDS = (
    "rayservices.ray.io,rayclusters.ray.io,pods,services,configmaps,secrets,serviceaccounts,"
    "roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,networkpolicies,poddisruptionbudgets"
)
SYSTEM = "hybridroute-system"


def left(cluster: Cluster) -> list[str]:
    """Return what is in the route's namespace beside what Kubernetes and the tests put there."""
    tests = ",".join(f"{key}!={value}" for key, value in OF_THE_TESTS.items())
    items = cluster.json("get", KINDS, "--selector", tests)["items"]
    names = [f"{item['kind']}/{item['metadata']['name']}" for item in items]
    kubernetes = {"Service/kubernetes", "ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
    return [name for name in names if name not in kubernetes and not name.split("/")[1].startswith("kuberay")]


def until_nothing(cluster: Cluster, what: str, remains: Callable[[], list[str]]) -> None:
    try:
        cluster.until(what, lambda: remains() == [], every=2)
    except AssertionError as error:
        error.add_note(f"left: {remains()}")
        raise


def test_a_deleted_route_says_that_it_waits_for_kuberay_and_then_leaves_nothing(route: Cluster) -> None:
    assert len(left(route)) > 10
    kuberay = ("deployment", "--selector=app.kubernetes.io/component=kuberay-operator")
    route.kubectl("scale", *kuberay, "--replicas=0")
    route.until("KubeRay is down", lambda: not kuberay_pods(route), every=1)
    route.kubectl("delete", "hybridroute", "support", "--timeout=60s")
    told = route.until("an event says what is waited for", lambda: waits(route, "support-gateway"), every=2)
    status = route.run("bash", "-c", f"{HYBRIDROUTE} status --namespace default --route support 2>&1 || true")
    for service in ("support-gateway", "support-slm"):
        words = f"RayService {service} is being deleted and waits for ray.io/"
        assert words in told, told
        assert words in " ".join(status.split()), status
    assert "which KubeRay takes away when it runs" in told
    route.kubectl("scale", *kuberay, "--replicas=1")
    until_nothing(route, "everything of the route is gone", lambda: left(route))


HYBRIDROUTE = Path(sys.executable).with_name("hybridroute")


def kuberay_pods(cluster: Cluster) -> list[str]:
    selector = "app.kubernetes.io/component=kuberay-operator"
    return cluster.kubectl("get", "pods", "-l", selector, "-o", "name").split()


def waits(cluster: Cluster, name: str) -> str:
    """Return the event that says what a RayService's deletion waits for; a part that was made anew has others."""
    events = cluster.json("get", "events", "--field-selector=reason=Terminating")["items"]
    return next((event["message"] for event in events if name in event["message"]), "")


def test_uninstalling_leaves_nothing(cluster: Cluster) -> None:
    for release in ("hybridroute", "hybridroute-crds"):
        cluster.run("helm", "uninstall", release, "--namespace", SYSTEM, "--wait", "--timeout", "10m")

    def remains() -> list[str]:
        kinds = "deployments,pods,services,serviceaccounts,roles,rolebindings,configmaps,secrets"
        names = cluster.kubectl("get", kinds, "-n", SYSTEM, "-o", "name").split()
        wide = cluster.kubectl("get", "clusterroles,clusterrolebindings,crds", "-o", "name").split()
        ours = ("serviceaccount/default", "configmap/kube-root-ca.crt", "lease")
        return [n for n in names if n not in ours] + [n for n in wide if "hybridroute" in n]

    until_nothing(cluster, "nothing of the releases is left", remains)
