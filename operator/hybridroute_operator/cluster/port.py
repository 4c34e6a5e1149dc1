"""What the loop asks of a cluster. A protocol: the Kubernetes client implements it, and so does a fake in tests."""

from dataclasses import dataclass
from typing import Any, Protocol

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_operator.observation import Observation, RouteKey
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.objects import Manifest

__all__ = ["Cluster", "RouteEvent"]


@dataclass(frozen=True, slots=True)
class RouteEvent:
    """What a person would want to know, as a Kubernetes Event of the route."""

    warning: bool
    reason: str
    message: str


class Cluster(Protocol):
    """Reads and writes of one API server. Every method raises an `OperatorError` when it cannot."""

    async def read_route(self, key: RouteKey) -> dict[str, Any] | None:
        """Return the HybridRoute as it is now, or None."""

    async def read_object(self, key: ObjectKey, namespace: str) -> Manifest | None:
        """Return an object of a kind that routes own, or None."""

    async def list_services(self, key: RouteKey) -> tuple[Manifest, ...]:
        """Return the RayServices that carry the route's label; none where the kind is not served."""

    async def observe(self, route: HybridRoute, wanted: tuple[ObjectKey, ...]) -> Observation:
        """Return the facts of one round: the wanted objects, stale ones, pods, Secrets' keys, the keeper's word."""

    async def apply(self, manifest: Manifest) -> None:
        """Apply an object server-side, as the field manager of ours; fields of ours that it lacks are removed."""

    async def create(self, manifest: Manifest) -> None:
        """Create an object unless it exists."""

    async def delete(self, key: ObjectKey, namespace: str) -> None:
        """Ask for an object's deletion; it need not exist."""

    async def patch(self, key: ObjectKey, namespace: str, operations: tuple[dict[str, Any], ...]) -> None:
        """Apply a JSON patch; a failed `test` in it is an `ApiConflictError`."""

    async def write_status(self, key: RouteKey, status: dict[str, Any]) -> None:
        """Write the status subresource."""

    async def record_event(self, route: dict[str, Any], event: RouteEvent) -> None:
        """Record an event of the route."""
