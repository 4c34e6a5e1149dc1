"""Load on one path alone: that path grows and shrinks again, and no other. A real Prometheus on this machine scrapes
keeper and operator as the monitors say, keeps the count, and is asked what alerts and dashboard ask.
"""

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import KUBE_VERSION
from support.kind_tier import Cluster
from support.kind_traffic import burst
from support.prometheus import PROMETHEUS_MISSING, Prometheus, ScrapeJob, run_prometheus

pytestmark = pytest.mark.skipif(
    PROMETHEUS_MISSING,
    reason="no Prometheus: apt-get install prometheus, or put its release's binary on PATH",
)

SYSTEM = "hybridroute-system"
MONITORING = "monitoring.coreos.com"
SCALING = {
    "slm": {"minReplicas": 1, "maxReplicas": 2, "targetOngoingRequests": 2},
    "llm": {"minReplicas": 1, "maxReplicas": 9, "targetOngoingRequests": 1},
}
"""One replica of the SLM to a pod, and two logical CPUs of a quarter each to the gateway's: router, keeper and six of
the llm-proxy's replicas fill the first pod.
"""
DELAYS = {"upscaleDelay": "2s", "downscaleDelay": "10s"}
CLIENTS = 16


def definition(kind: str) -> dict[str, Any]:
    """Return a definition of one of the Prometheus operator's kinds that takes anything."""
    plural = f"{kind.lower()}s"
    names = {"kind": kind, "plural": plural, "singular": kind.lower(), "listKind": f"{kind}List"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{MONITORING}"},
        "spec": {"group": MONITORING, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def chart_objects(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Return what the installed chart adds when it is to be monitored, by kind."""
    parts = ("serviceMonitor", "prometheusRule", "dashboard")
    told = cluster.run(
        *("helm", "template", "hybridroute", "charts/hybridroute", "--namespace", SYSTEM),
        *("--show-only", "templates/monitoring.yaml", *KUBE_VERSION),
        *(option for part in parts for option in ("--set", f"metrics.{part}.enabled=true")),
    )
    return {document["kind"]: document for document in yaml.safe_load_all(told) if document}


def selector(monitor: dict[str, Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in monitor["spec"]["selector"]["matchLabels"].items())


def keeper_job(cluster: Cluster, stack: ExitStack) -> ScrapeJob:
    """Return the scrape that the route's PodMonitor asks for, of the one pod that it selects."""
    monitor = cluster.until("the operator makes a PodMonitor", lambda: pod_monitor(cluster), every=1)
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    [pod] = cluster.json("get", "pods", "-l", selector(monitor))["items"]
    [port] = [
        port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", [])
        if port.get("name") == endpoint["port"]
    ]
    credentials = endpoint["authorization"]["credentials"]
    secret = cluster.json("get", "secret", credentials["name"])["data"][credentials["key"]]
    url = stack.enter_context(cluster.forward(f"pod/{pod['metadata']['name']}", port))
    return ScrapeJob("keeper", url, endpoint["path"], base64.b64decode(secret).decode())


def pod_monitor(cluster: Cluster) -> dict[str, Any] | None:
    found = cluster.json("get", f"podmonitors.{MONITORING}")["items"]
    return found[0] if found else None


def operator_job(cluster: Cluster, monitor: dict[str, Any], stack: ExitStack) -> ScrapeJob:
    """Return the scrape that the chart's ServiceMonitor asks for."""
    [endpoint] = monitor["spec"]["endpoints"]
    [service] = cluster.json("get", "services", "-n", SYSTEM, "-l", selector(monitor))["items"]
    [port] = [p["port"] for p in service["spec"]["ports"] if p["name"] == endpoint["port"]]
    target = f"service/{service['metadata']['name']}"
    return ScrapeJob("operator", stack.enter_context(cluster.forward(target, port, SYSTEM)), endpoint["path"])


@pytest.fixture(scope="module")
def chart(route: Cluster) -> dict[str, dict[str, Any]]:
    return chart_objects(route)


@pytest.fixture(scope="module")
def prometheus(
    route: Cluster, chart: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """Prometheus with the cluster's targets and the chart's rules."""
    route.apply(definition("PodMonitor"))
    folder: Path = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        jobs = [keeper_job(route, stack), operator_job(route, chart["ServiceMonitor"], stack)]
        yield stack.enter_context(run_prometheus(folder, jobs, chart["PrometheusRule"]["spec"]))


@pytest.fixture(scope="module")
def elastic(route: Cluster) -> Iterator[Cluster]:
    """The route with small targets, and as it was afterwards."""
    was = route.route()["spec"]
    route.patch({path: {"scaling": bounds | DELAYS} for path, bounds in SCALING.items()})
    route.wait_until_whole()
    yield route
    route.patch({path: {"scaling": dict.fromkeys(DELAYS) | was[path]["scaling"]} for path in SCALING})
    route.wait_until_whole()


def replicas(prometheus: Prometheus) -> dict[str, int]:
    return {labels["app"]: int(value) for labels, value in prometheus.query("hybridroute_replicas")}


def workers(cluster: Cluster, part: str) -> int:
    return len(cluster.pods(route="support", part=part, node="worker"))


def test_keeper_and_operator_are_scraped(route: Cluster, prometheus: Prometheus) -> None:
    def scraped() -> bool:
        up = {labels["job"]: value for labels, value in prometheus.query("up")}
        return up == {"keeper": "1", "operator": "1"}

    route.until("both targets are up", scraped)
    route.until("the operator leads", lambda: prometheus.query("hybridroute_operator_leading == 1"))
    assert replicas(prometheus) == {"router": 1, "llm-proxy": 1, "slm": 1}


@pytest.mark.parametrize(
    ("kind", "app", "others", "part"),
    [("local", "slm", ("llm-proxy", "router"), "slm"), ("remote", "llm-proxy", ("slm", "router"), "gateway")],
)
def test_only_the_path_that_is_asked_grows(
    elastic: Cluster, prometheus: Prometheus, kind: str, app: str, others: tuple[str, str], part: str
) -> None:
    assert workers(elastic, "slm") == workers(elastic, "gateway") == 0
    began = time.time()
    with burst(elastic, kind, CLIENTS, f"burst of {kind} questions, {CLIENTS} clients") as phase:
        most = elastic.route()["spec"][{"slm": "slm", "llm-proxy": "llm"}[app]]["scaling"]["maxReplicas"]
        grown = elastic.until(
            f"{app} grows and with it the pods of {part}",
            lambda: workers(elastic, part) == 1 and (count := replicas(prometheus)[app]) > 1 and count,
            every=1,
        )
        elastic.until("the new pod serves", lambda: all_ready(elastic, part), every=1)
        assert grown <= most
        phase.took_effect = time.time()
    assert phase.failures == [], phase.told()
    ended = time.time()
    elastic.until(f"{app} shrinks", lambda: replicas(prometheus)[app] == 1, every=1)
    shrunk = time.time()
    elastic.until("the worker pod goes", lambda: workers(elastic, part) == 0, every=1)
    gone = time.time()
    seconds = int(gone - began)
    for other in others:
        [(_, highest)] = prometheus.query(f'max_over_time(hybridroute_replicas{{app="{other}"}}[{seconds}s])')
        assert highest == "1", other
    print(
        f"{app}: grown to {grown}, shrunk after {shrunk - ended:.0f} s, pod gone after {gone - ended:.0f} s"
    )


def all_ready(cluster: Cluster, part: str) -> bool:
    pods = cluster.pods(route="support", part=part, node="worker")
    return all(
        condition["status"] == "True"
        for pod in pods
        for condition in pod["status"].get("conditions", [])
        if condition["type"] == "Ready"
    )


def test_dollars_on_metrics_are_those_of_the_command(route: Cluster, prometheus: Prometheus) -> None:
    def dollars() -> dict[str, Decimal]:
        found = prometheus.query("sum by (path) (hybridroute_cost_usd_total)")
        return {labels["path"]: Decimal(value) for labels, value in found}

    account = json.loads(
        route.run(".venv/bin/hybridroute", "costs", "--namespace", "default", "--route", "support", "--json")
    )
    time.sleep(5)
    print(account, dollars(), os.environ.get("X"))
    told = {path: Decimal(figures["usd"]) for path, figures in account["paths"].items()}
    assert told == dollars()


def test_alerts_and_dashboard_have_their_data(
    route: Cluster, prometheus: Prometheus, chart: dict[str, dict[str, Any]]
) -> None:
    board = json.loads(chart["ConfigMap"]["data"]["hybridroute.json"])
    empty = []
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$route", "support")
            if not prometheus.query(expression):
                empty.append((panel["title"], target["expr"]))
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    print(empty, [(r["name"], r["health"], r["state"]) for r in rules])
    assert {rule["health"] for rule in rules} == {"ok"}
    assert len(rules) == sum(len(g["rules"]) for g in chart["PrometheusRule"]["spec"]["groups"])
