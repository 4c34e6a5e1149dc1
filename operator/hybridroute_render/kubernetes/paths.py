"""Files and ports inside the pods, as placements for the Serve config. Pure."""

from typing import Final

from hybridroute_render.kubernetes.names import Part, RouteNames
from hybridroute_render.placement import Placement, ServePorts

__all__ = [
    "AUTHORITIES_DIR",
    "CLAIMS_DIR",
    "CLIENTS_DIR",
    "CLIENTS_FILE",
    "CREDENTIALS_DIR",
    "HUB_TOKEN_DIR",
    "HUB_TOKEN_FILE",
    "INTERNAL_DIR",
    "LIVE_KEY",
    "PORTS",
    "STATE_DIR",
    "WORK_DIR",
    "authorities_file",
    "credential_file",
    "render_placement",
]

PORTS: Final = ServePorts()
INTERNAL_DIR: Final = "/var/run/hybridroute/internal"
LIVE_KEY: Final = "live.json"
CREDENTIALS_DIR: Final = "/var/run/hybridroute/credentials"
WORK_DIR: Final = "/var/lib/hybridroute/work"
"""Journals: they outlive a process, not the pod."""
STATE_DIR: Final = "/var/lib/hybridroute/state"
"""The keeper's store: a claim's volume, or the pod's own."""


CLIENTS_DIR: Final = "/var/run/hybridroute/clients"
CLIENTS_FILE: Final = f"{CLIENTS_DIR}/clients.yaml"
AUTHORITIES_DIR: Final = "/var/run/hybridroute/authorities"
HUB_TOKEN_DIR: Final = "/var/run/hybridroute/hub"  # noqa: S105 - a folder
HUB_TOKEN_FILE: Final = f"{HUB_TOKEN_DIR}/token"
CLAIMS_DIR: Final = "/var/lib/hybridroute/claims"


def authorities_file(upstream: str) -> str:
    """Return the file that holds the upstream's authorities inside the gateway's pods."""
    return f"{AUTHORITIES_DIR}/{upstream}/ca.crt"


def credential_file(upstream: str) -> str:
    """Return the file that holds the upstream's key inside the gateway's pods."""
    return f"{CREDENTIALS_DIR}/{upstream}/key"


def render_placement(names: RouteNames, part: Part, domain: str) -> Placement:
    """Return where the parts are, as seen from one of them. `domain` is the cluster's.

    Inside the gateway its own ingress is on the same pod: HAProxy runs beside every replica.
    """
    local = f"http://127.0.0.1:{PORTS.http}"
    service = f"http://{names.serve_host(Part.GATEWAY, domain)}:{PORTS.http}"
    return Placement(
        gateway_url=local if part is Part.GATEWAY else service,
        slm_ingress_url=f"http://{names.serve_host(Part.SLM, domain)}:{PORTS.http}",
        gateway_haproxy_metrics_url=f"http://127.0.0.1:{PORTS.haproxy_metrics}/metrics",
        # KubeRay publishes the ports of the head's container, its serve service has the ingress alone.
        slm_haproxy_metrics_url=f"http://{names.head_host(Part.SLM, domain)}:{PORTS.haproxy_metrics}/metrics",
        token_file=f"{INTERNAL_DIR}/token",
        metrics_token_file=f"{INTERNAL_DIR}/metrics-token",
        state_dir=STATE_DIR,
        journal_dir=f"{WORK_DIR}/journal",
        live_file=f"{WORK_DIR}/{LIVE_KEY}",
        hub_token_file=HUB_TOKEN_FILE,
        claims_dir=CLAIMS_DIR,
        # A mounted ConfigMap takes up to two minutes to change; the keeper reads it from the API itself.
        live_config_map=f"{names.namespace}/{names.live}/{LIVE_KEY}",
        ledger_config_map=f"{names.namespace}/{names.ledger}",
        gateway_service_url=service,
    )
