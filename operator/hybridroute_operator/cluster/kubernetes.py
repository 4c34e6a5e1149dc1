"""The cluster port over the Kubernetes API: reads one round's facts, applies objects, writes status and events."""

import asyncio
import base64
import hashlib
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from hybridroute_api.crd import PLURAL
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.resource import API_VERSION, KIND
from hybridroute_operator.cluster.api import (
    APPLY,
    JSON_PATCH,
    MERGE_PATCH,
    Api,
    KindMissingError,
    conflict,
)
from hybridroute_operator.cluster.keeper import KeeperReader
from hybridroute_operator.cluster.port import RouteEvent
from hybridroute_operator.errors import ApiConflictError, ApiRejectedError, OperatorError
from hybridroute_operator.observation import (
    GatewayState,
    Observation,
    PodState,
    RouteKey,
    active_cluster,
    parse_gateway_state,
    parse_pod_state,
)
from hybridroute_operator.references import named_objects
from hybridroute_render.kubernetes.kinds import KINDS, Kind, ObjectKey, key_of, object_path
from hybridroute_render.kubernetes.names import MANAGER, PART_LABEL, ROUTE_LABEL, Part
from hybridroute_render.kubernetes.objects import Manifest, route_names
from hybridroute_render.kubernetes.paths import PORTS

__all__ = ["KubernetesCluster", "list_route_keys"]

_LOG = logging.getLogger(__name__)

_ROUTES: Final = Kind(KIND, API_VERSION, PLURAL)
_RAY_CLUSTERS: Final = Kind("RayCluster", "ray.io/v1", "rayclusters")
_PODS: Final = Kind("Pod", "v1", "pods")
_EVENTS: Final = Kind("Event", "v1", "events")


class KubernetesCluster:
    """Implements `hybridroute_operator.cluster.port.Cluster`."""

    def __init__(
        self,
        api: Api,
        keeper: KeeperReader,
        *,
        domain: str,
        now: Callable[[], datetime],
        identity: str,
    ) -> None:
        self._api = api
        self._keeper = keeper
        self._domain = domain
        self._now = now
        self._identity = identity

    async def read_route(self, key: RouteKey) -> dict[str, Any] | None:
        """Return the HybridRoute as it is now, or None."""
        return await self._api.get(f"{_ROUTES.collection(key.namespace)}/{key.name}")

    async def read_object(self, key: ObjectKey, namespace: str) -> Manifest | None:
        """Return an object of a kind that routes own, or None."""
        return await self._api.get(object_path(key, namespace))

    async def list_services(self, key: RouteKey) -> tuple[Manifest, ...]:
        """Return the RayServices that carry the route's label."""
        found = await self._list_labelled(KINDS["RayService"], key.namespace, f"{ROUTE_LABEL}={key.name}")
        return tuple(found.values())

    async def observe(self, route: HybridRoute, wanted: tuple[ObjectKey, ...]) -> Observation:
        """Return the facts of one round."""
        names = route_names(route)
        selector = f"{ROUTE_LABEL}={names.route}"
        pods = asyncio.create_task(self._read_pods(names.namespace, selector))
        entries = asyncio.create_task(self._read_entries(named_objects(route), names.namespace))
        try:
            children, missing = await self._read_children(wanted, names.namespace, selector)
        finally:
            await asyncio.gather(pods, entries, return_exceptions=True)
        services = {part: children.get(ObjectKey("RayService", names.part(part))) for part in Part}
        clusters = {
            part: cluster
            for part, service in services.items()
            if (name := active_cluster(service)) is not None
            and (cluster := await self._api.get(f"{_RAY_CLUSTERS.collection(names.namespace)}/{name}"))
        }
        tokens = ObjectKey("Secret", names.internal)
        gateway = None
        if Part.GATEWAY in clusters and tokens in children:
            gateway = await self._read_keeper(names.serve_host(Part.GATEWAY, self._domain), children[tokens])
        if tokens in children:
            # Values of Secrets go no further.
            children[tokens] = {k: v for k, v in children[tokens].items() if k not in ("data", "stringData")}
        return Observation(
            children=children,
            secret_keys=entries.result()["Secret"],
            config_map_keys=entries.result()["ConfigMap"],
            ray_clusters=clusters,
            pods=pods.result(),
            missing_kinds=missing,
            gateway=gateway,
        )

    async def apply(self, manifest: Manifest) -> None:
        """Apply an object server-side. A field that the API server does not know is refused, not dropped."""
        path = object_path(key_of(manifest), manifest["metadata"]["namespace"])
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        status, document = await self._api.write("PATCH", path, manifest, kind=APPLY, **query)
        if status == 409:
            raise conflict("PATCH", path, document)
        if status == 404:
            raise ApiRejectedError(f"PATCH {path}: 404 {document.get('message', '')}")

    async def create(self, manifest: Manifest) -> None:
        """Create an object unless it exists."""
        path = KINDS[manifest["kind"]].collection(manifest["metadata"]["namespace"])
        status, document = await self._api.write("POST", path, manifest, fieldManager=MANAGER)
        if status == 404:
            raise ApiRejectedError(f"POST {path}: 404 {document.get('message', '')}")

    async def delete(self, key: ObjectKey, namespace: str) -> None:
        """Ask for an object's deletion; it need not exist."""
        await self._api.write("DELETE", object_path(key, namespace), {"propagationPolicy": "Foreground"})

    async def patch(self, key: ObjectKey, namespace: str, operations: tuple[dict[str, Any], ...]) -> None:
        """Apply a JSON patch to a RayCluster; a failed `test` in it is a conflict."""
        path = f"{_RAY_CLUSTERS.collection(namespace)}/{key.name}"
        try:
            await self._api.write("PATCH", path, list(operations), kind=JSON_PATCH, fieldManager=MANAGER)
        except ApiRejectedError as error:
            raise ApiConflictError(str(error)) from error

    async def write_status(self, key: RouteKey, status: dict[str, Any]) -> None:
        """Write the status subresource; a route that is gone needs none."""
        path = f"{_ROUTES.collection(key.namespace)}/{key.name}/status"
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": key.name, "namespace": key.namespace},
            "status": status,
        }
        query = {"fieldManager": f"{MANAGER}-status", "force": "true"}
        code, document = await self._api.write("PATCH", path, body, kind=APPLY, **query)
        if code == 409:
            raise conflict("PATCH", path, document)

    async def record_event(self, route: dict[str, Any], event: RouteEvent) -> None:
        """Record an event. One that was recorded within the hour gets a new time; failing stops nothing."""
        metadata = route["metadata"]
        digest = hashlib.sha256(f"{event.reason}\n{event.message}".encode()).hexdigest()[:16]
        name = f"{metadata['name']}.{digest}"
        now = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"name": name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": "Warning" if event.warning else "Normal",
            "reason": event.reason,
            "message": event.message[:1024],
            "source": {"component": MANAGER},
            "reportingComponent": MANAGER,
            "reportingInstance": self._identity,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        path = _EVENTS.collection(metadata["namespace"])
        try:
            status, _ = await self._api.write("POST", path, body)
            if status == 409:
                await self._api.write("PATCH", f"{path}/{name}", {"lastTimestamp": now}, kind=MERGE_PATCH)
        except OperatorError as error:
            _LOG.warning("event was not recorded reason=%s error=%s", event.reason, error)

    async def _read_children(
        self, wanted: tuple[ObjectKey, ...], namespace: str, selector: str
    ) -> tuple[dict[ObjectKey, Manifest], frozenset[str]]:
        """Return wanted and stale objects, and the kinds that are not served."""
        others = [kind for kind in KINDS.values() if kind.name not in {key.kind for key in wanted}]
        found = await asyncio.gather(
            *(self._read_child(key, namespace) for key in wanted),
            *(self._list_labelled(kind, namespace, selector) for kind in others),
        )
        children: dict[ObjectKey, Manifest] = {}
        for part in found:
            children |= part if isinstance(part, dict) else {}
        return children, frozenset(part for part in found if isinstance(part, str))

    async def _read_child(self, key: ObjectKey, namespace: str) -> dict[ObjectKey, Manifest] | str:
        """Return the object under its key, nothing, or the kind's name where it is not served."""
        try:
            child = await self._api.get(object_path(key, namespace))
        except KindMissingError:
            return key.kind
        return {key: child} if child is not None else {}

    async def _list_labelled(self, kind: Kind, namespace: str, selector: str) -> dict[ObjectKey, Manifest]:
        try:
            answer = await self._api.get(kind.collection(namespace), labelSelector=selector)
        except KindMissingError:
            return {}
        items = (answer or {}).get("items") or ()
        return {ObjectKey(kind.name, item["metadata"]["name"]): item for item in items}

    async def _read_pods(self, namespace: str, selector: str) -> dict[Part, tuple[PodState, ...]]:
        answer = await self._api.get(_PODS.collection(namespace), labelSelector=selector)
        found: dict[Part, list[PodState]] = {part: [] for part in Part}
        for pod in (answer or {}).get("items") or ():
            part = pod["metadata"].get("labels", {}).get(PART_LABEL)
            if part in list(Part) and "deletionTimestamp" not in pod["metadata"]:
                found[Part(part)].append(parse_pod_state(pod))
        return {part: tuple(pods) for part, pods in found.items()}

    async def _read_entries(
        self, wanted: tuple[ObjectKey, ...], namespace: str
    ) -> dict[str, dict[str, frozenset[str]]]:
        """Return the names of the entries of Secrets and ConfigMaps, by kind and name; those that do not exist lack."""
        found: dict[str, dict[str, frozenset[str]]] = {"Secret": {}, "ConfigMap": {}}
        for key in wanted:
            document = await self._api.get(object_path(key, namespace))
            if document is not None:
                # What is not text, such as a calibrated policy, is an entry of a ConfigMap's binaryData.
                entries = (document.get("data") or {}) | (document.get("binaryData") or {})
                found[key.kind][key.name] = frozenset(entries)
        return found

    async def _read_keeper(self, host: str, secret: Manifest) -> GatewayState | None:
        token = base64.b64decode((secret.get("data") or {}).get("token", "")).decode()
        state = await self._keeper.read_state(f"http://{host}:{PORTS.http}", token)
        try:
            return parse_gateway_state(state) if state is not None else None
        except (KeyError, TypeError, ValueError) as error:
            _LOG.warning("keeper's state was not understood host=%s error=%s", host, type(error).__name__)
            return None


async def list_route_keys(api: Api, namespaces: tuple[str, ...]) -> list[RouteKey]:
    """Return the routes of some namespaces, or of all."""
    paths = [_ROUTES.collection(namespace) for namespace in namespaces] or [f"/apis/{API_VERSION}/{PLURAL}"]
    answers = [await api.get(path) for path in paths]
    items = [item for answer in answers for item in (answer or {}).get("items") or ()]
    return [RouteKey(item["metadata"]["namespace"], item["metadata"]["name"]) for item in items]
