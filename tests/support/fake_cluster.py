"""A cluster in memory: server-side apply, owner references and failures on demand.

It keeps what an API server keeps: fields that were applied and are applied no more go away, fields of others stay.
KubeRay is the test itself, which writes states.
"""

import copy
from collections.abc import Callable
from typing import Any

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_operator.cluster.port import RouteEvent
from hybridroute_operator.observation import GatewayState, Observation, PodState, RouteKey
from hybridroute_render.kubernetes.kinds import ObjectKey, key_of
from hybridroute_render.kubernetes.names import ROUTE_LABEL, Part
from hybridroute_render.kubernetes.objects import Manifest

__all__ = ["CrashError", "FakeCluster"]


class CrashError(Exception):
    """The operator's process ended at this write."""


class FakeCluster:
    """Implements `hybridroute_operator.cluster.port.Cluster`."""

    def __init__(self) -> None:
        self.routes: dict[RouteKey, dict[str, Any]] = {}
        self.objects: dict[ObjectKey, Manifest] = {}
        self.secret_keys: dict[str, frozenset[str]] = {}
        self.config_map_keys: dict[str, frozenset[str]] = {}
        self.ray_clusters: dict[Part, Manifest] = {}
        self.pods: dict[Part, tuple[PodState, ...]] = {}
        self.missing_kinds: frozenset[str] = frozenset()
        self.gateway: GatewayState | None = None
        self.events: list[RouteEvent] = []
        self.told_of: list[str] = []
        """Identities of the routes that events were about, one an event."""
        self.writes: list[str] = []
        self.before_write: Callable[[str], None] = lambda _: None
        self._applied: dict[ObjectKey, Manifest] = {}

    def put_route(self, document: dict[str, Any]) -> RouteKey:
        """Create or change a route as a person does: the status stays, the generation grows with the spec."""
        metadata = document["metadata"]
        key = RouteKey(metadata.get("namespace", "default"), metadata["name"])
        old = self.routes.get(key)
        generation = (old["metadata"]["generation"] + (old["spec"] != document["spec"])) if old else 1
        kept = {"namespace": key.namespace, "uid": f"uid-{key}", "generation": generation}
        self.routes[key] = copy.deepcopy(document) | {"metadata": metadata | kept}
        if old and "status" in old:
            self.routes[key]["status"] = old["status"]
        return key

    def serve(self, part: Part, **applications: str) -> None:
        """Write the states of a part's applications, as KubeRay does. `_` in a name stands for `-`."""
        service = next(
            o for k, o in self.objects.items() if k.kind == "RayService" and k.name.endswith(f"-{part}")
        )
        states = {name.replace("_", "-"): {"status": word} for name, word in applications.items()}
        cluster = f"{service['metadata']['name']}-abcde"
        service["status"] = {
            "activeServiceStatus": {"applicationStatuses": states, "rayClusterName": cluster}
        }

    async def read_route(self, key: RouteKey) -> dict[str, Any] | None:
        return copy.deepcopy(self.routes.get(key))

    async def read_object(self, key: ObjectKey, namespace: str) -> Manifest | None:
        return copy.deepcopy(self.objects.get(key))

    async def list_services(self, key: RouteKey) -> tuple[Manifest, ...]:
        mine = (o for k, o in self.objects.items() if k.kind == "RayService")
        return tuple(
            copy.deepcopy(o) for o in mine if o["metadata"].get("labels", {}).get(ROUTE_LABEL) == key.name
        )

    async def observe(self, route: HybridRoute, wanted: tuple[ObjectKey, ...]) -> Observation:
        mine = {
            key: copy.deepcopy(item)
            for key, item in self.objects.items()
            if key in wanted or item["metadata"].get("labels", {}).get(ROUTE_LABEL) == route.metadata.name
        }
        return Observation(
            children=mine,
            secret_keys=dict(self.secret_keys),
            config_map_keys=dict(self.config_map_keys),
            ray_clusters=copy.deepcopy(self.ray_clusters),
            pods=dict(self.pods),
            missing_kinds=self.missing_kinds,
            gateway=self.gateway,
        )

    async def apply(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        self._write(f"apply {key}")
        live = _without(self.objects.get(key, {}), self._applied.get(key, {}))
        self.objects[key] = _merged(live, manifest)
        self._applied[key] = copy.deepcopy(manifest)

    async def create(self, manifest: Manifest) -> None:
        key = key_of(manifest)
        self._write(f"create {key}")
        self.objects.setdefault(key, copy.deepcopy(manifest))

    async def delete(self, key: ObjectKey, namespace: str) -> None:
        self._write(f"delete {key}")
        self.objects.pop(key, None)
        self._applied.pop(key, None)

    async def patch(self, key: ObjectKey, namespace: str, operations: tuple[dict[str, Any], ...]) -> None:
        self._write(f"patch {key}")
        cluster = next(c for c in self.ray_clusters.values() if c["metadata"]["name"] == key.name)
        for operation in operations:
            *parents, last = operation["path"].strip("/").split("/")
            target: Any = cluster
            for step in parents:
                target = target[int(step) if isinstance(target, list) else step]
            if operation["op"] == "test":
                assert target[last] == operation["value"]
            else:
                target[last] = operation["value"]

    async def write_status(self, key: RouteKey, status: dict[str, Any]) -> None:
        self._write(f"status {key}")
        self.routes[key]["status"] = copy.deepcopy(status)

    async def record_event(self, route: dict[str, Any], event: RouteEvent) -> None:
        self.events.append(event)
        self.told_of.append(route["metadata"]["uid"])

    def _write(self, what: str) -> None:
        self.before_write(what)
        self.writes.append(what)


def _merged(live: Any, applied: Any) -> Any:
    if isinstance(live, dict) and isinstance(applied, dict):
        both = {key: _merged(live.get(key), value) for key, value in applied.items()}
        return {**live, **both}
    return copy.deepcopy(applied)


def _without(live: Any, applied: Any) -> Any:
    """Return what is live and was not applied by us: that much is somebody else's."""
    if not isinstance(live, dict) or not isinstance(applied, dict):
        return {}
    kept = {}
    for key, value in live.items():
        if key not in applied:
            kept[key] = value
        elif isinstance(value, dict) and (rest := _without(value, applied[key])):
            kept[key] = rest
    return kept
