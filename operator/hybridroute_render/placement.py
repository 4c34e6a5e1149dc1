"""Where a route's parts find each other: addresses, files and ports. The one thing that differs between
a machine and a cluster; whoever deploys fills it in and the renderers read it. No behaviour."""

from dataclasses import dataclass

__all__ = ["Placement", "ServePorts"]


@dataclass(frozen=True, slots=True)
class ServePorts:
    """TCP ports of one Ray Serve instance. HAProxy's exporter and statistics page bind all interfaces."""

    http: int = 8000
    haproxy_metrics: int = 9101
    haproxy_stats: int = 8404
    fallback_proxy: int = 8500


@dataclass(frozen=True, slots=True)
class Placement:
    """Addresses and files as the replicas see them."""

    gateway_url: str
    """Ingress of the router, llm-proxy and keeper applications, without a trailing slash."""
    slm_ingress_url: str
    """Ingress of the SLM application; the gateway's own on one machine."""
    gateway_haproxy_metrics_url: str
    """HAProxy's exporter beside the gateway."""
    slm_haproxy_metrics_url: str
    """HAProxy's exporter beside the SLM."""
    token_file: str
    metrics_token_file: str
    state_dir: str
    """The keeper's store; survives its process."""
    journal_dir: str
    """Replicas' journals; survives their processes."""
    live_file: str
    """The live policy document the keeper watches."""
    live_config_map: str | None = None
    """Where the document comes from in a cluster, see `KeeperArgs`; None on one machine."""
    hub_token_file: str | None = None
    """Where SLM replicas read the model hub's access token, if the route has one."""
    claims_dir: str = ""
    """Below it the volumes of the claims that models are in, by their names; empty on one machine, which has none."""
    ledger_config_map: str | None = None
    """Where the dollar ledger is kept in a cluster, see `KeeperArgs`; None on one machine."""
    gateway_service_url: str | None = None
    """The gateway as clients find it, whichever Ray cluster serves; None on one machine."""
