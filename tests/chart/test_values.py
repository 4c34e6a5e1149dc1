"""Wrong values are refused by the schema, with the name of what is wrong; those of every kind of install pass."""

from typing import Any

import pytest

from support.helm import CHART, CRD_CHART, KUBE_VERSION, HelmRefusedError, run_helm, template

REFUSED = [
    ({"replicaCount": -1}, "replicaCount"),
    ({"replicaCount": "two"}, "replicaCount"),
    ({"replicas": 2}, "replicas"),
    ({"image.pullPolicy": "Sometimes"}, "pullPolicy"),
    ({"image.digest": "sha256:abc"}, "digest"),
    ({"image.repository": ""}, "repository"),
    ({"watchNamespaces": "shop"}, "watchNamespaces"),
    ({"watchNamespaces": ["Shop"]}, "watchNamespaces"),
    ({"watchNamespaces": ["shop", "shop"]}, "watchNamespaces"),
    ({"routes.gatewayCpu": 1}, "gatewayCpu"),
    ({"routes.headCpu": "0.5"}, "headCpu"),
    ({"routes.clusterDomain": "cluster.local."}, "clusterDomain"),
    ({"routes.rayVersion": "2.60"}, "rayVersion"),
    ({"routes.podMonitor": True}, "podMonitor"),
    ({"service.port": 80}, "port"),
    ({"metrics.serviceMonitor.interval": "soon"}, "interval"),
    ({"metrics.prometheusRules.enabled": True}, "prometheusRules"),
    ({"podDisruptionBudget.maxUnavailable": 0}, "maxUnavailable"),
    ({"podLabels": {"a": 1}}, "podLabels"),
    ({"serviceAccount.name": "Not A Name"}, "name"),
    ({"tests.apiKey.key": ""}, "key"),
]
ACCEPTED: list[dict[str, Any]] = [
    {},
    {"watchNamespaces": ["shop", "lab"], "replicaCount": 2},
    {"metrics.serviceMonitor.enabled": True, "metrics.prometheusRule.enabled": True},
    {"podDisruptionBudget.maxUnavailable": "50%", "replicaCount": 3, "metrics.dashboard.enabled": True},
    {"rbac.create": False, "serviceAccount.create": False, "tests.enabled": False},
    {"global": {"from": "an umbrella chart"}},
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[f"{next(iter(v.items()))}" for v, _ in REFUSED])
def test_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(HelmRefusedError) as told:
        template(CHART, values)
    assert "values don't meet the specifications of the schema" in str(told.value)
    assert named in str(told.value)


@pytest.mark.parametrize("values", ACCEPTED, ids=str)
def test_accepted(values: dict[str, Any]) -> None:
    assert template(CHART, values)


def test_the_definitions_chart_takes_no_values() -> None:
    with pytest.raises(HelmRefusedError, match="keep"):
        template(CRD_CHART, {"keep": True})


@pytest.mark.parametrize("chart", [CHART, CRD_CHART], ids=lambda chart: chart.name)
def test_lint(chart: Any) -> None:
    assert "0 chart(s) failed" in run_helm("lint", "--strict", *KUBE_VERSION, str(chart))


def test_names_stay_within_a_label() -> None:
    objects = template(CHART, {"fullnameOverride": "x" * 63})
    assert max(len(o["metadata"]["name"]) for o in objects if o["kind"] == "Deployment") == 63
