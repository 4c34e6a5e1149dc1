"""Deleting a route, and then the releases, leaves nothing behind. The tier's last file: it takes all of it away."""

from support.kind_tier import Cluster

KINDS = (
    "rayservices.ray.io,rayclusters.ray.io,pods,services,configmaps,secrets,serviceaccounts,"
    "roles.rbac.authorization.k8s.io,rolebindings.rbac.authorization.k8s.io,networkpolicies,poddisruptionbudgets"
)
SYSTEM = "hybridroute-system"


def left(cluster: Cluster) -> list[str]:
    """Return what is in the route's namespace beside what Kubernetes and the tests put there."""
    items = cluster.json("get", KINDS)["items"]
    names = [f"{item['kind']}/{item['metadata']['name']}" for item in items]
    kubernetes = {"Service/kubernetes", "ConfigMap/kube-root-ca.crt", "ServiceAccount/default"}
    tests = ("provider", "traffic", "kuberay")
    return [name for name in names if name not in kubernetes and not name.split("/")[1].startswith(tests)]


def test_deleting_a_route_leaves_nothing(route: Cluster) -> None:
    assert len(left(route)) > 10
    route.kubectl("delete", "hybridroute", "support", "--timeout=600s")
    route.until("everything of the route is gone", lambda: left(route) == [], every=2)


def test_uninstalling_leaves_nothing(cluster: Cluster) -> None:
    for release in ("hybridroute", "hybridroute-crds"):
        cluster.run("helm", "uninstall", release, "--namespace", SYSTEM, "--wait", "--timeout", "10m")

    def remains() -> list[str]:
        kinds = "deployments,pods,services,serviceaccounts,roles,rolebindings,configmaps,secrets"
        names = cluster.kubectl("get", kinds, "-n", SYSTEM, "-o", "name").split()
        wide = cluster.kubectl("get", "clusterroles,clusterrolebindings,crds", "-o", "name").split()
        ours = ("serviceaccount/default", "configmap/kube-root-ca.crt", "lease")
        return [n for n in names if n not in ours] + [n for n in wide if "hybridroute" in n]

    cluster.until("nothing of the releases is left", lambda: remains() == [], every=2)
