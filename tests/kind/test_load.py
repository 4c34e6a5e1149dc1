"""Load on one path alone: that path grows and shrinks again, and no other. A real Prometheus on this machine scrapes
keeper and operator as the monitors say, keeps the count, and is asked what alerts and dashboard ask.
"""

import base64
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import KUBE_VERSION
from support.kind_tier import Cluster
from support.kind_traffic import burst_of, note
from support.prometheus import PROMETHEUS_MISSING, Prometheus, ScrapeJob, run_prometheus

pytestmark = pytest.mark.skipif(
    PROMETHEUS_MISSING,
    reason="no Prometheus: apt-get install prometheus, or put its release's binary on PATH",
)

SYSTEM = "hybridroute-system"
MONITORING = "monitoring.coreos.com"
SCALING = {
    "slm": {"minReplicas": 1, "maxReplicas": 2, "targetOngoingRequests": 2},
    "llm": {"minReplicas": 1, "maxReplicas": 3, "targetOngoingRequests": 2},
}
"""A replica of the SLM has a pod of its own; eight replicas of a gateway share one."""
DELAYS = {"upscaleDelay": "2s", "downscaleDelay": "10s"}
CLIENTS = 8
SETTLE_SECONDS = 25
HYBRIDROUTE = Path(sys.executable).with_name("hybridroute")


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
    url = stack.enter_context(cluster.keep_forwarding(f"pod/{pod['metadata']['name']}", port))
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
    return ScrapeJob(
        "operator", stack.enter_context(cluster.keep_forwarding(target, port, SYSTEM)), endpoint["path"]
    )


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
def elastic(route: Cluster, prometheus: Prometheus) -> Iterator[Cluster]:
    """The route with small targets, and as it was afterwards."""
    was = route.route()["spec"]
    route.patch({path: {"scaling": bounds | DELAYS} for path, bounds in SCALING.items()})
    # Serve rolls the replicas, some seconds from now: by a second one beside the first.
    time.sleep(SETTLE_SECONDS)
    route.until("replicas have been rolled", lambda: one_each(prometheus, f"[{SETTLE_SECONDS}s]"), every=1)
    route.wait_until_whole()
    yield route
    route.patch({path: {"scaling": dict.fromkeys(DELAYS) | was[path]["scaling"]} for path in SCALING})
    route.wait_until_whole()


def one_each(prometheus: Prometheus, since: str) -> bool:
    """Say whether each application has had one replica and no other number for some time."""
    series = f"hybridroute_replicas{since}"
    seen = prometheus.query(f"min_over_time({series}) == 1 and max_over_time({series}) == 1")
    return {labels["app"] for labels, _ in seen} == {"router", "llm-proxy", "slm"}


def replicas(prometheus: Prometheus) -> dict[str, int]:
    """Return replicas by application, as the last scrape that came through had them."""
    found = prometheus.query("last_over_time(hybridroute_replicas[1m])")
    return {labels["app"]: int(value) for labels, value in found}


def workers(cluster: Cluster) -> dict[str, int]:
    """Return how many worker pods each part has."""
    return {part: len(cluster.pods(route="support", part=part, node="worker")) for part in ("slm", "gateway")}


def test_keeper_and_operator_are_scraped(route: Cluster, prometheus: Prometheus) -> None:
    def scraped() -> bool:
        up = {labels["job"]: value for labels, value in prometheus.query("up")}
        return up == {"keeper": "1", "operator": "1"}

    route.until("both targets are up", scraped)
    route.until("the operator leads", lambda: prometheus.query("hybridroute_operator_leading == 1"))
    route.until("one replica of each application", lambda: one_each(prometheus, "[10s]"), every=1)


@dataclass(frozen=True)
class Burst:
    """What a burst of one kind is to move."""

    kind: str
    app: str
    grown: int
    """Replicas in the end."""
    pods: dict[str, int]
    """Worker pods then, by part."""
    others: tuple[str, str]


BURSTS = [
    Burst("local", "slm", 2, {"slm": 1, "gateway": 0}, ("llm-proxy", "router")),
    Burst("remote", "llm-proxy", 3, {"slm": 0, "gateway": 0}, ("slm", "router")),
]


@pytest.mark.parametrize("burst", BURSTS, ids=lambda burst: burst.kind)
def test_only_the_path_that_is_asked_grows(elastic: Cluster, prometheus: Prometheus, burst: Burst) -> None:
    elastic.until("one pod each", lambda: not any(workers(elastic).values()), every=1)
    began = time.time()
    with burst_of(elastic, burst.kind, CLIENTS, f"{CLIENTS} clients, {burst.kind} questions alone") as phase:
        elastic.until(
            f"{burst.app} grows, and pods with it",
            lambda: replicas(prometheus).get(burst.app) == burst.grown and workers(elastic) == burst.pods,
            every=1,
        )
        phase.took_effect = time.time()
    assert phase.failures == [], phase.told()
    elastic.until(f"{burst.app} shrinks", lambda: replicas(prometheus).get(burst.app) == 1, every=1)
    shrunk = time.time()
    elastic.until("worker pods go", lambda: not any(workers(elastic).values()), every=1)
    gone = time.time()
    note(
        f"{burst.app}: {burst.grown} replicas; one again {shrunk - phase.ended:.0f} s after the burst, "
        f"worker pods gone {gone - phase.ended:.0f} s after it"
    )
    for other in burst.others:
        ever = f'max_over_time(hybridroute_replicas{{app="{other}"}}[{int(gone - began)}s])'
        assert [value for _, value in prometheus.query(ever)] == ["1"], other


def test_dollars_on_metrics_are_those_of_the_command(route: Cluster, prometheus: Prometheus) -> None:
    def scraped() -> dict[str, Decimal]:
        found = prometheus.query("sum by (path) (hybridroute_cost_usd_total)")
        return {labels["path"]: round(Decimal(value), 9) for labels, value in found}

    command = (str(HYBRIDROUTE), "costs", "--namespace", "default", "--route", "support", "--json")
    account = json.loads(route.run(*command))
    told = {path: Decimal(figures["usd"]) for path, figures in account["paths"].items()}
    assert all(usd > 0 for usd in told.values())
    route.until(f"a scrape says {told}", lambda: scraped() == told, seconds=60)


def test_alerts_and_dashboard_have_their_data(
    prometheus: Prometheus, chart: dict[str, dict[str, Any]]
) -> None:
    rules = [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]
    asked = [rule for group in chart["PrometheusRule"]["spec"]["groups"] for rule in group["rules"]]
    assert [rule["name"] for rule in rules] == [rule["alert"] for rule in asked]
    assert {rule["health"] for rule in rules} == {"ok"}
    assert {rule["state"] for rule in rules} <= {"inactive", "pending"}, rules
    board = json.loads(chart["ConfigMap"]["data"]["hybridroute.json"])
    empty = {
        panel["title"]
        for panel in board["panels"]
        for target in panel["targets"]
        if not prometheus.query(target["expr"].replace("$route", "support"))
    }
    assert empty <= set(EMPTY), empty


EMPTY = ("Drift",)
"""What there is no data of while the route has no calibrated policy."""
