"""Alerts and dashboard: made only when asked for, and of metrics that exist."""

import json
import re

import pytest

from hybridroute_operator.metrics import OperatorMetrics
from hybridroute_serve.keeper.metrics_page import render_metrics_page
from support.helm import CHART, only, template

ON = {
    "metrics.serviceMonitor": {"enabled": True, "interval": "15s", "labels": {"release": "prom"}},
    "metrics.prometheusRule": {"enabled": True, "labels": {"release": "prom"}},
    "metrics.dashboard.enabled": True,
}


def known_metrics() -> set[str]:
    """Return the names of all samples that the keeper and the operator export."""
    keeper = set(re.findall(r"^\| `(\w+)` \| (\w+)", render_metrics_page(), re.MULTILINE))
    page = OperatorMetrics().page().decode()
    found = {name for name, _ in keeper} | set(re.findall(r"^# TYPE (\w+) ", page, re.MULTILINE))
    histograms = {name for name, kind in keeper if kind == "histogram"}
    return found | {f"{name}_{suffix}" for name in histograms for suffix in ("bucket", "sum", "count")}


def expressions() -> list[str]:
    objects = template(CHART, ON)
    rules = [rule for group in only(objects, "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    board = json.loads(only(objects, "ConfigMap")["data"]["hybridroute.json"])
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    chosen = [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    return [rule["expr"] for rule in rules] + shown + chosen


def test_nothing_needs_the_prometheus_operator_unless_asked() -> None:
    assert {o["apiVersion"] for o in template(CHART)} == {"v1", "apps/v1", "rbac.authorization.k8s.io/v1"}


def test_the_monitor_finds_the_service() -> None:
    objects = template(CHART, ON)
    monitor, service = only(objects, "ServiceMonitor"), only(objects, "Service")
    assert monitor["metadata"]["labels"]["release"] == "prom"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint == {"port": service["spec"]["ports"][0]["name"], "path": "/metrics", "interval": "15s"}


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = {name for text in expressions() for name in re.findall(r"\bhybridroute_\w+", text)}
    assert len(asked) > 15
    assert asked <= known_metrics()


def test_every_alert_says_what_to_know() -> None:
    rules = only(template(CHART, ON), "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical"), rule["alert"]
        assert rule["annotations"]["summary"].endswith("."), rule["alert"]
        # A label that the expression sums away would be shown empty.
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        kept = re.findall(r"sum by \(([\w, ]+)\)", rule["expr"])
        assert all(used <= set(words.split(", ")) for words in kept), rule["alert"]


def test_panels_do_not_overlap() -> None:
    board = json.loads(only(template(CHART, ON), "ConfigMap")["data"]["hybridroute.json"])
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in board["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert all(panel["description"] for panel in board["panels"])


@pytest.mark.parametrize("part", ["serviceMonitor", "prometheusRule", "dashboard"])
def test_each_part_can_be_had_alone(part: str) -> None:
    plain, more = template(CHART), template(CHART, {f"metrics.{part}.enabled": True})
    assert len(more) == len(plain) + 1
