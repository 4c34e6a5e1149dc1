"""What the charts render: rights, arguments, labels and security, each held against the code it must agree with."""

import ast
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from hybridroute_operator.settings import parse_settings
from hybridroute_render.kubernetes.names import Part, render_labels
from hybridroute_render.kubernetes.operator_access import (
    render_cluster_rules,
    render_lease_rules,
    render_namespace_rules,
)
from support.helm import CHART, CRD_CHART, only, template

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def container(objects: list[dict[str, Any]]) -> dict[str, Any]:
    [found] = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)


def kinds(objects: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((o["kind"], o["metadata"]["name"]) for o in objects)


def test_a_plain_install() -> None:
    assert kinds(template(CHART)) == [
        ("ClusterRole", "system:shop-operator"),
        ("ClusterRoleBinding", "system:shop-operator"),
        ("Deployment", "shop-operator"),
        ("Pod", "shop-operator-completion"),
        ("Role", "shop-operator-lease"),
        ("RoleBinding", "shop-operator-lease"),
        ("Service", "shop-operator"),
        ("ServiceAccount", "shop-operator"),
    ]


def test_every_object_that_lives_in_a_namespace_names_it() -> None:
    for item in template(CHART, {"replicaCount": 2, "metrics.dashboard.enabled": True}):
        if not item["kind"].startswith("Cluster"):
            assert item["metadata"]["namespace"] == "system", item["kind"]


def test_the_rights_of_a_cluster_wide_install_are_those_of_the_code() -> None:
    objects = template(CHART)
    everywhere = only(objects, "ClusterRole")
    assert everywhere["rules"] == render_namespace_rules() + render_cluster_rules()
    assert only(objects, "Role")["rules"] == render_lease_rules()
    for binding in (only(objects, "ClusterRoleBinding"), only(objects, "RoleBinding")):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "shop-operator", "namespace": "system"}
        ]
        assert binding["roleRef"]["name"] in (everywhere["metadata"]["name"], "shop-operator-lease")


def test_a_namespaced_install_has_no_right_elsewhere() -> None:
    objects = template(CHART, {"watchNamespaces": ["shop", "lab"]})
    assert not [o for o in objects if o["kind"].startswith("Cluster")]
    roles = {(o["metadata"]["namespace"], o["metadata"]["name"]): o for o in objects if o["kind"] == "Role"}
    assert sorted(roles) == [
        ("lab", "shop-operator"),
        ("shop", "shop-operator"),
        ("system", "shop-operator-lease"),
    ]
    for namespace in ("lab", "shop"):
        assert roles[namespace, "shop-operator"]["rules"] == render_namespace_rules()
    bound = [
        (o["metadata"]["namespace"], o["roleRef"]["name"]) for o in objects if o["kind"] == "RoleBinding"
    ]
    assert sorted(bound) == sorted(roles)
    assert parse_settings(container(objects)["args"], {}).namespaces == ("shop", "lab")


def test_the_operator_takes_every_argument_that_the_chart_gives() -> None:
    values = {
        "routes.image": {"repository": "registry/serve", "tag": "7", "digest": "", "pullPolicy": "Always"},
        "routes.rayVersion": "2.61.0",
        "routes.gatewayCpu": "250m",
        "routes.headCpu": "2",
        "routes.clusterDomain": "k8s.example",
        "routes.podMonitors": False,
        "service.port": 9000,
    }
    objects = template(CHART, values)
    settings = parse_settings(container(objects)["args"], {})
    assert settings.cluster.serve_image == "registry/serve:7"
    assert settings.cluster.image_pull_policy == "Always"
    assert settings.cluster.ray_version == "2.61.0"
    assert (settings.cluster.gateway_cpu, settings.cluster.head_cpu) == ("250m", "2")
    assert settings.cluster.cluster_domain == "k8s.example"
    assert not settings.cluster.pod_monitors
    assert settings.lease_namespace == "system"
    assert settings.leader_election
    assert settings.probe_port == container(objects)["ports"][0]["containerPort"] == 9000
    assert only(objects, "Service")["spec"]["ports"][0]["port"] == 9000


def test_a_plain_install_has_the_operators_own_defaults() -> None:
    chart = parse_settings(container(template(CHART))["args"], {})
    assert chart.cluster == parse_settings([], {}).cluster


def test_versions_are_one() -> None:
    for chart in (CHART, CRD_CHART):
        about = yaml.safe_load((chart / "Chart.yaml").read_text())
        assert (about["version"], about["appVersion"]) == (VERSION, VERSION)
    assert container(template(CHART))["image"] == f"hybridroute/operator:{VERSION}"
    locked = (ROOT / "requirements" / "serve.lock").read_text()
    assert f"\nray=={parse_settings([], {}).cluster.ray_version} " in locked


def test_a_digest_goes_before_a_tag() -> None:
    digest = "sha256:" + "0" * 64
    objects = template(CHART, {"image.digest": digest, "image.tag": "7"})
    assert container(objects)["image"] == f"hybridroute/operator@{digest}"


@pytest.mark.parametrize("kind", ["Deployment", "Pod"])
def test_pods_pass_the_restricted_level(kind: str) -> None:
    item = only(template(CHART), kind)
    pod = item["spec"]["template"]["spec"] if kind == "Deployment" else item["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for each in pod["containers"]:
        security = each["securityContext"]
        assert not security["allowPrivilegeEscalation"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert each["resources"]["limits"]["memory"]


@pytest.mark.parametrize("route", ["shop", "hybridroute", "operator"])
def test_the_operators_selectors_find_no_pod_of_a_route(route: str) -> None:
    objects = template(CHART, {"replicaCount": 2})
    selectors = [
        only(objects, "Deployment")["spec"]["selector"]["matchLabels"],
        only(objects, "Service")["spec"]["selector"],
        only(objects, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
    ]
    for part in Part:
        labels = render_labels(route, part).items()
        assert not any(selector.items() <= labels for selector in selectors)
    hook = only(objects, "Pod")["metadata"]["labels"].items()
    assert not any(selector.items() <= hook for selector in selectors)


def test_one_replica_has_no_disruption_budget() -> None:
    assert not [o for o in template(CHART) if o["kind"] == "PodDisruptionBudget"]
    budget = only(template(CHART, {"replicaCount": 2}), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_what_a_person_adds_to_the_pod_is_there() -> None:
    values = {
        "podLabels": {"team": "a"},
        "podAnnotations": {"note": "b"},
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "priorityClassName": "high",
        "serviceAccount": {"create": False, "name": "given", "annotations": {}},
        "rbac.create": False,
    }
    objects = template(CHART, values)
    pod = only(objects, "Deployment")["spec"]["template"]
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["annotations"] == {"note": "b"}
    spec = pod["spec"]
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [{"key": "spot", "operator": "Exists"}]
    assert spec["priorityClassName"] == "high"
    assert spec["serviceAccountName"] == "given"
    assert kinds(objects) == [
        ("Deployment", "shop-operator"),
        ("Pod", "shop-operator-completion"),
        ("Service", "shop-operator"),
    ]


def test_the_hook_runs_the_file_that_is_checked_here() -> None:
    pod = only(template(CHART, {"tests.apiKey": {"secretName": "keys", "key": "mine"}}), "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    [run] = pod["spec"]["containers"]
    assert run["command"] == ["python", "-c"]
    [text] = run["args"]
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse((CHART / "files" / "completion.py").read_text()))
    assert {"name": "keys", "key": "mine"} in [
        (item.get("valueFrom") or {}).get("secretKeyRef") for item in run["env"]
    ]


def test_the_definition_is_the_generated_one() -> None:
    [definition] = template(CRD_CHART)
    assert definition == yaml.safe_load((ROOT / "crds" / "hybridroute.dev_hybridroutes.yaml").read_text())
