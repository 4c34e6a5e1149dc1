"""Environment that every Ray node of a route needs before it starts. Pure; the reasons are measurements.

Ray reads these once per process, so they cannot be part of the Serve config itself.
"""

from hybridroute_api.serving import LONGEST_REQUEST_SECONDS
from hybridroute_render.placement import ServePorts

__all__ = ["render_serve_environment"]

_LONGEST_SILENCE_SECONDS = 60
"""Of a client that is to send; silence of an answer does not count."""

_HAPROXY_OPTIONS = (
    # Body and head of a small request come in two pieces from most clients. HAProxy 2.8 does not notice that such a
    # client leaves before the answer begins, unless it has taken in the whole request first.
    "option http-buffer-request",
    # A client that drips is left, too, and not only one that says nothing.
    f"timeout http-request {_LONGEST_SILENCE_SECONDS}s",
    # Serve has every request logged, at each of its two passes, to a syslog that no container has: a quarter of
    # HAProxy's system calls. What fails still is.
    "option dontlog-normal",
)


def render_serve_environment(ports: ServePorts, *, cores: int) -> dict[str, str]:
    """Environment variables for `ray start` and every driver.

    `cores` is the number of processors HAProxy may use.
    """
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Past what Serve does for each request (decision 20).
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "hybridroute_serve.apps.lane:make_middlewares",
        # Ray runs replicas at 15: beside anything else that is busy, a gateway that must answer at once would wait.
        "RAY_worker_niceness": "0",
        # Any replica change in any application reloads HAProxy, and its old process dies this long after.
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(LONGEST_REQUEST_SECONDS),
        # A stopping replica holds its accelerator for this long even when idle; 30 by default.
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
        # Three failed checks find a dead HAProxy: 29 s without service at the default period of 10 s.
        "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
        # Ten looks a second at replicas that have not changed took a quarter of what an idle route takes.
        "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
        "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, min(cores, 4))),
        # Not after an hour.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(_LONGEST_SILENCE_SECONDS),
        # What HAProxy takes in before it hands on. Longer requests go on as they come, and are not watched as well.
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": str(64 * 1024),
        # The one setting that Serve writes into HAProxy's defaults as it is: lines of ours ride on it (decision 13).
        "RAY_SERVE_HAPROXY_RETRY_ON": "\n    ".join(("conn-failure", *_HAPROXY_OPTIONS)),
        # HAProxy's exporter stays. Off is a log line a request and hop, which a Python process would read into Ray's
        # metrics; the keeper's are the exact account.
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_proxy),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
    }
