"""Envoy's configuration for the benchmarks. Pure."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["envoy_config"]

TYPES: Final = "type.googleapis.com/envoy.extensions"


def envoy_config(
    port: int, upstreams: Sequence[str], *, retries: int, attempt_seconds: int
) -> dict[str, Any]:
    """Return a listener on loopback before one cluster; a second upstream is its second priority."""
    retry: dict[str, Any] = {
        "retry_on": "5xx,reset,connect-failure,retriable-status-codes",
        "retriable_status_codes": [429],
        "num_retries": retries,
        "per_try_timeout": f"{attempt_seconds}s",
    }
    cluster: dict[str, Any] = {
        "name": "up",
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {
            "thresholds": [{"retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 3}}]
        },
        "load_assignment": {
            "cluster_name": "up",
            "endpoints": [
                {"priority": priority, "lb_endpoints": [{"endpoint": {"address": address(url)}}]}
                for priority, url in enumerate(upstreams)
            ],
        },
    }
    if len(upstreams) > 1:
        kind = "envoy.retry_priorities.previous_priorities"
        previous = f"{TYPES}.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
        retry["retry_priority"] = {"name": kind, "typed_config": {"@type": previous, "update_frequency": 1}}
        cluster["outlier_detection"] = {
            "consecutive_5xx": 5,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_percent": 100,
        }
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "up", "timeout": "0s", "retry_policy": retry},
    }
    router = {"@type": f"{TYPES}.filters.http.router.v3.Router"}
    manager = {
        "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"address": address(f"http://127.0.0.1:{port}"), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def address(url: str) -> dict[str, Any]:
    """Return a URL's host and port as Envoy writes them."""
    parts = urlsplit(url)
    return {"socket_address": {"address": parts.hostname, "port_value": parts.port}}
