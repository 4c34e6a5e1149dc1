"""What the operator's account may do, as `kubectl auth can-i` answers.

That it suffices is shown by every other test of this tier: the operator runs under it.
"""

import subprocess

import pytest

from support.api_server import ApiServer

TABLE = [
    # verb, resource, allowed
    ("list", "hybridroutes.hybridroute.dev", True),
    ("patch", "hybridroutes.hybridroute.dev/status", True),
    ("patch", "hybridroutes.hybridroute.dev", False),
    ("delete", "hybridroutes.hybridroute.dev", False),
    ("create", "rayservices.ray.io", True),
    ("delete", "rayservices.ray.io", True),
    ("patch", "rayclusters.ray.io", True),
    ("delete", "rayclusters.ray.io", False),
    ("patch", "configmaps", True),
    ("get", "secrets", True),
    ("create", "secrets", True),
    ("list", "secrets", False),
    ("watch", "secrets", False),
    ("patch", "secrets", False),
    ("delete", "secrets", False),
    ("list", "pods", True),
    ("create", "pods", False),
    ("delete", "pods", False),
    ("create", "pods/exec", False),
    ("get", "nodes", False),
    ("create", "clusterroles.rbac.authorization.k8s.io", False),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io", False),
    ("escalate", "roles.rbac.authorization.k8s.io", False),
    ("bind", "roles.rbac.authorization.k8s.io", False),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io", False),
    ("create", "deployments.apps", False),
    ("create", "events", True),
]


@pytest.mark.parametrize(("verb", "resource", "allowed"), TABLE, ids=[f"{v} {r}" for v, r, _ in TABLE])
def test_right(cluster: ApiServer, verb: str, resource: str, allowed: bool) -> None:
    resource, _, subresource = resource.partition("/")
    command = ["kubectl", f"--kubeconfig={cluster.operator_kubeconfig}", "auth", "can-i", verb, resource]
    command += [f"--subresource={subresource}"] if subresource else []
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.stdout.strip() == ("yes" if allowed else "no"), answer.stderr


def test_leases_only_in_its_own_namespace(cluster: ApiServer) -> None:
    for namespace, expected in (("default", "yes"), ("kube-system", "no")):
        command = [
            "kubectl",
            f"--kubeconfig={cluster.operator_kubeconfig}",
            "auth",
            "can-i",
            "update",
            "leases",
        ]
        answer = subprocess.run(
            [*command, "-n", namespace], capture_output=True, text=True, check=False, timeout=60
        )
        assert answer.stdout.strip() == expected
