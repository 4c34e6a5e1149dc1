"""Names and labels of everything a route owns in a cluster. Pure; nothing else spells one.

A route's name has at most 39 characters, so that the longest name here, KubeRay's serve service, stays within the
63 of a DNS label, and a RayService's within the 47 that KubeRay accepts.
"""

from enum import StrEnum
from typing import Final

__all__ = [
    "MANAGER",
    "PART_LABEL",
    "ROUTE_LABEL",
    "Part",
    "RouteNames",
    "render_labels",
    "render_pod_labels",
    "render_selector",
]

MANAGER: Final = "hybridroute-operator"
"""Field manager of server-side apply, and `app.kubernetes.io/managed-by`."""
ROUTE_LABEL: Final = "hybridroute.dev/route"
PART_LABEL: Final = "hybridroute.dev/part"


class Part(StrEnum):
    """The two Ray clusters of a route."""

    GATEWAY = "gateway"
    SLM = "slm"


class RouteNames:
    """What the objects of one route are called."""

    def __init__(self, route: str, namespace: str) -> None:
        self.route = route
        self.namespace = namespace
        self.live = f"{route}-live"
        """ConfigMap with the live policy."""
        self.accepted = f"{route}-accepted"
        """ConfigMap with the spec that was accepted last."""
        self.ledger = f"{route}-ledger"
        """ConfigMap with the dollar ledger."""
        self.internal = f"{route}-internal"
        """Secret with the tokens that guard the paths and the metrics."""

    def part(self, part: Part) -> str:
        """RayService of a part, and whatever else there is one of for each."""
        return f"{self.route}-{part}"

    def serve_service(self, part: Part) -> str:
        """Service that KubeRay points at the active cluster's healthy proxies."""
        return f"{self.part(part)}-serve-svc"

    def serve_host(self, part: Part, domain: str) -> str:
        """Host of that service. With the cluster's domain no name is ever asked for outside of it."""
        return f"{self.serve_service(part)}.{self.namespace}.svc.{domain}"

    def head_host(self, part: Part, domain: str) -> str:
        """Host of the service that KubeRay points at the active cluster's head."""
        return f"{self.part(part)}-head-svc.{self.namespace}.svc.{domain}"


def render_labels(route: str, part: Part | None = None) -> dict[str, str]:
    """Return the labels of an object of the route, or of one of its parts."""
    component = {"app.kubernetes.io/component": part.value, PART_LABEL: part.value} if part else {}
    return {
        "app.kubernetes.io/name": "hybridroute",
        "app.kubernetes.io/instance": route,
        "app.kubernetes.io/managed-by": MANAGER,
        ROUTE_LABEL: route,
    } | component


def render_pod_labels(route: str, part: Part) -> dict[str, str]:
    """Return the labels of a Ray pod.

    The application's name is KubeRay's to give: the Service of a RayService's head selects pods by it.
    """
    labels = render_labels(route, part)
    del labels["app.kubernetes.io/name"]
    return labels


def render_selector(route: str, part: Part) -> dict[str, str]:
    """Return the labels that select the pods of a part."""
    return {ROUTE_LABEL: route, PART_LABEL: part.value}
