"""The operator's chart on a real API server: admitted, within `restricted`, with the code's rights, gone at the end.

No node runs anything here; that is the kind tier's.
"""

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from support.api_server import ApiServer
from support.helm import CHART, HELM_MISSING, only, run_helm, template

pytestmark = pytest.mark.skipif(HELM_MISSING, reason="helm is not on PATH")

ALL_ON = {"replicaCount": 2, "metrics.dashboard.enabled": True}
TABLE = [
    # verb, resource, allowed
    ("list", "hybridroutes.hybridroute.dev", True),
    ("patch", "hybridroutes.hybridroute.dev", False),
    ("create", "networkpolicies.networking.k8s.io", True),
    ("create", "secrets", True),
    ("list", "secrets", False),
    ("delete", "pods", False),
    ("list", "customresourcedefinitions.apiextensions.k8s.io", True),
    ("update", "leases.coordination.k8s.io", True),
]


@pytest.fixture
def install(cluster: ApiServer) -> Callable[..., str]:
    """Installs a release of the chart in a namespace that enforces the `restricted` level; returns its name."""

    def run(namespace: str, **values: Any) -> str:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in {namespace, *values.get("watchNamespaces", ())}:
            document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            assert cluster.apply(document, f"/api/v1/namespaces/{name}")[0] in (200, 201)
        given = [f"--set-json={key}={json.dumps(value)}" for key, value in values.items()]
        where = (f"--kubeconfig={cluster.kubeconfig}", "--namespace", namespace)
        run_helm("install", namespace, str(CHART), *where, *given)
        return namespace

    return run


def can(cluster: ApiServer, account: str, verb: str, resource: str, namespace: str) -> bool:
    command = ["kubectl", f"--kubeconfig={cluster.kubeconfig}", "auth", "can-i", verb, resource]
    command += [f"--as=system:serviceaccount:{account}", "--namespace", namespace]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return answer.stdout.strip() == "yes"


def test_every_object_is_admitted_and_no_field_is_unknown(cluster: ApiServer) -> None:
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "system"}}
    assert cluster.apply(document, "/api/v1/namespaces/system")[0] in (200, 201)
    for values in (ALL_ON, ALL_ON | {"watchNamespaces": ["system"]}):
        told = subprocess.run(
            [
                *("kubectl", f"--kubeconfig={cluster.kubeconfig}", "create"),
                *("--dry-run=server", "--validate=strict", "-f", "-"),
            ],
            input=yaml.safe_dump_all(template(CHART, values)),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert told.returncode == 0, told.stderr


def test_the_operators_pod_passes_the_restricted_level(
    cluster: ApiServer, install: Callable[..., str]
) -> None:
    namespace = install("restricted")
    objects = template(CHART)
    made = [only(objects, "Deployment")["spec"]["template"]["spec"], only(objects, "Pod")["spec"]]
    for spec in made:
        # Its account is made by the release, under the release's name.
        spec["serviceAccountName"] = f"{namespace}-operator"
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "asked"}, "spec": spec}
        status, answer = cluster.request("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", pod)
        assert status == 201, answer["message"]


def test_a_cluster_wide_install_has_the_rights_of_the_code_and_leaves_nothing(
    cluster: ApiServer, install: Callable[..., str]
) -> None:
    namespace = install("everywhere")
    account = f"{namespace}:{namespace}-operator"
    found = {(verb, what): can(cluster, account, verb, what, namespace) for verb, what, _ in TABLE}
    assert found == {(verb, what): allowed for verb, what, allowed in TABLE}
    assert can(cluster, account, "create", "configmaps", "default")
    assert not can(cluster, account, "update", "leases.coordination.k8s.io", "default")

    run_helm("uninstall", namespace, f"--kubeconfig={cluster.kubeconfig}", "--namespace", namespace)
    assert not can(cluster, account, "list", "hybridroutes.hybridroute.dev", namespace)
    for kind in ("clusterroles", "clusterrolebindings"):
        _, document = cluster.request("GET", f"/apis/rbac.authorization.k8s.io/v1/{kind}")
        assert not [i for i in document["items"] if i["metadata"]["name"].startswith(namespace)]


def test_a_namespaced_install_has_no_right_elsewhere(cluster: ApiServer, install: Callable[..., str]) -> None:
    namespace = install("narrow", watchNamespaces=["one", "two"])
    account = f"{namespace}:{namespace}-operator"
    for watched in ("one", "two"):
        assert can(cluster, account, "create", "networkpolicies.networking.k8s.io", watched)
    assert can(cluster, account, "update", "leases.coordination.k8s.io", namespace)
    for verb, what in (
        ("list", "hybridroutes.hybridroute.dev"),
        ("get", "secrets"),
        ("create", "configmaps"),
    ):
        assert not can(cluster, account, verb, what, "default")
        assert not can(cluster, account, verb, what, namespace)
