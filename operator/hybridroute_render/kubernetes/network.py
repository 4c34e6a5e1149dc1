"""Who may reach a route's pods, how many may be away at once, and who scrapes them. Pure.

Ray's ports, HAProxy's statistics (:8404) and exporter (:9101) bind all interfaces without a password: only pods of
the same part reach them, with the exceptions below. A network plugin that does not enforce NetworkPolicies leaves
them open.
"""

from typing import Any, Final

from hybridroute_render.kubernetes.names import Part, RouteNames, render_selector
from hybridroute_render.kubernetes.paths import PORTS

__all__ = ["render_disruption_budgets", "render_network_policies", "render_pod_monitor"]

_DASHBOARD_PORT: Final = 8265


def render_network_policies(names: RouteNames) -> list[dict[str, Any]]:
    """Return a policy for each part: the ingress of the gateway is open, that of the SLM is the gateway's alone."""
    gateway = {"podSelector": {"matchLabels": render_selector(names.route, Part.GATEWAY)}}
    to_gateway = [{"ports": [_port(PORTS.http)]}]
    to_slm = [{"from": [gateway], "ports": [_port(PORTS.http), _port(PORTS.haproxy_metrics)]}]
    return [_policy(names, Part.GATEWAY, to_gateway), _policy(names, Part.SLM, to_slm)]


def render_disruption_budgets(names: RouteNames) -> list[dict[str, Any]]:
    """Return a budget for each part: a drained node takes one pod at a time."""
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": names.part(part)},
            "spec": {
                "maxUnavailable": 1,
                "selector": {"matchLabels": render_selector(names.route, part)},
                # A pod that never became ready protects nothing.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
        for part in Part
    ]


def render_pod_monitor(names: RouteNames) -> dict[str, Any]:
    """Return the scrape of the keeper's exact account, through the ingress of one pod."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": names.part(Part.GATEWAY)},
        "spec": {
            "selector": {
                "matchLabels": render_selector(names.route, Part.GATEWAY) | {"ray.io/node-type": "head"}
            },
            "podMetricsEndpoints": [
                {
                    "port": "serve",
                    "path": "/keeper/metrics",
                    "authorization": {"credentials": {"name": names.internal, "key": "metrics-token"}},
                }
            ],
        },
    }


def _policy(names: RouteNames, part: Part, ingress: list[dict[str, Any]]) -> dict[str, Any]:
    own = render_selector(names.route, part)
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": names.part(part)},
        "spec": {
            "podSelector": {"matchLabels": own},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [{"podSelector": {"matchLabels": own}}]},
                {"from": _kuberay(), "ports": [_port(_DASHBOARD_PORT), _port(PORTS.http)]},
                *ingress,
            ],
        },
    }


def _kuberay() -> list[dict[str, Any]]:
    """Return KubeRay's operator, which hands the Serve config to the dashboard and asks proxies for their health.

    By the label of its Helm chart and by that of its kustomization, whose `name` is another.
    """
    return [
        {"namespaceSelector": {}, "podSelector": {"matchLabels": {label: "kuberay-operator"}}}
        for label in ("app.kubernetes.io/name", "app.kubernetes.io/component")
    ]


def _port(port: int) -> dict[str, Any]:
    return {"protocol": "TCP", "port": port}
