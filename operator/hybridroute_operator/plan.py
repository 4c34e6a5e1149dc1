"""Desired and observed objects → what to do, each with its reason. Pure.

Whether an object is as it should be is read off two things: a digest of what was last applied, which finds a change of
the route, and a comparison of each field that is ours with what is there, which finds a change by somebody else. A
route at rest therefore costs no write.
"""

import copy
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.conditions import ConditionReason
from hybridroute_api.v1alpha1.resource import API_VERSION, KIND
from hybridroute_api.v1alpha1.slm import Rollout
from hybridroute_operator.observation import Observation
from hybridroute_render.kubernetes.kinds import ObjectKey, key_of
from hybridroute_render.kubernetes.leftovers import describe_leaving
from hybridroute_render.kubernetes.names import MANAGER, ROUTE_LABEL, Part
from hybridroute_render.kubernetes.objects import Manifest, render_ledger, route_names

__all__ = [
    "DIGEST_ANNOTATION",
    "PODS_ANNOTATION",
    "Action",
    "ActionKind",
    "Obstacle",
    "Plan",
    "plan_actions",
    "stamp_manifest",
]

DIGEST_ANNOTATION: Final = "hybridroute.dev/digest"
"""Digest of the manifest that was last applied."""
PODS_ANNOTATION: Final = "hybridroute.dev/pods-digest"
"""Digest of a RayService's cluster without the bounds of its groups: a change of it needs new pods."""

_BOUNDS: Final = ("minReplicas", "maxReplicas")


class ActionKind(StrEnum):
    """What is done to an object."""

    APPLY = "Apply"
    """Server-side apply of the whole manifest."""
    CREATE_TOKENS = "CreateTokens"
    """Make the Secret with random tokens; never overwritten."""
    CREATE_LEDGER = "CreateLedger"
    """Make the ConfigMap that the keeper writes; never overwritten, and nothing is made before it."""
    DELETE = "Delete"
    RESIZE = "Resize"
    """Carry the bounds of worker groups to the live RayCluster, where KubeRay does not."""


@dataclass(frozen=True, slots=True)
class Action:
    """One write."""

    kind: ActionKind
    key: ObjectKey
    reason: str
    """Why, for the log and the event: completes "was applied because it …"."""
    manifest: Manifest | None = None
    patch: tuple[dict[str, Any], ...] = ()
    """JSON patch, for RESIZE."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that cannot be done, and whose turn it is."""

    key: ObjectKey
    reason: ConditionReason
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order, and what stands in the way."""

    actions: tuple[Action, ...]
    obstacles: tuple[Obstacle, ...] = ()


def plan_actions(route: HybridRoute, desired: tuple[Manifest, ...], observed: Observation) -> Plan:
    """Return what brings the observed objects to the desired ones. An empty plan: all is as it should be."""
    names = route_names(route)
    actions: list[Action] = []
    obstacles: list[Obstacle] = []
    tokens, ledger = ObjectKey("Secret", names.internal), ObjectKey("ConfigMap", names.ledger)
    # First of all: whoever finds the others without it knows that it was lost, and money may have been spent.
    spenders = (tokens, ObjectKey("RayService", names.part(Part.GATEWAY)))
    ran = any(key in observed.children and _is_ours(observed.children[key], route) for key in spenders)
    if ledger not in observed.children:
        manifest = render_ledger(route, first=not ran)
        actions.append(Action(ActionKind.CREATE_LEDGER, ledger, "does not exist", manifest))
    elif (obstacle := _claim_obstacle(route, ledger, observed.children[ledger])) is not None:
        if not ran:
            return Plan((), (obstacle,))
        obstacles.append(obstacle)
    if tokens not in observed.children:
        actions.append(Action(ActionKind.CREATE_TOKENS, tokens, "does not exist"))
    elif (obstacle := _claim_obstacle(route, tokens, observed.children[tokens])) is not None:
        obstacles.append(obstacle)
    for manifest in desired:
        planned = _plan_object(route, stamp_manifest(manifest), observed)
        if isinstance(planned, Action):
            actions.append(planned)
        elif isinstance(planned, Obstacle):
            obstacles.append(planned)
    actions += _plan_sizes(route, desired, observed)
    wanted = {key_of(manifest) for manifest in desired} | {tokens, ledger}
    actions += [
        Action(ActionKind.DELETE, key, "is no longer wanted")
        for key, child in sorted(observed.children.items(), key=lambda item: item[0])
        if key not in wanted and _is_ours(child, route) and not _is_going(child)
    ]
    return Plan(tuple(actions), tuple(obstacles))


def stamp_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest with the digests that later rounds compare. The manifest itself is left alone."""
    stamped = copy.deepcopy(manifest)
    annotations = stamped["metadata"].setdefault("annotations", {})
    if manifest["kind"] == "RayService":
        annotations[PODS_ANNOTATION] = _digest(_without_bounds(manifest["spec"]["rayClusterConfig"]))
    annotations[DIGEST_ANNOTATION] = _digest(manifest)
    return stamped


def _plan_object(route: HybridRoute, manifest: Manifest, observed: Observation) -> Action | Obstacle | None:
    key = key_of(manifest)
    if key.kind in observed.missing_kinds:
        if key.kind != "RayService":
            return None  # nice to have, made when the kind comes
        message = "the cluster does not know the kind RayService: install KubeRay"
        return Obstacle(key, ConditionReason.KUBERAY_MISSING, message)
    child = observed.children.get(key)
    if child is None:
        return Action(ActionKind.APPLY, key, "does not exist", manifest)
    if (obstacle := _claim_obstacle(route, key, child)) is not None:
        return obstacle
    if (frozen := _frozen_difference(manifest, child)) is not None:
        return Action(
            ActionKind.DELETE, key, f"has another {frozen}, which the API server lets nobody change"
        )
    annotations = manifest["metadata"]["annotations"]
    seen = child["metadata"].get("annotations") or {}
    if _is_recreated(route, key) and seen.get(PODS_ANNOTATION) not in (None, annotations[PODS_ANNOTATION]):
        return Action(ActionKind.DELETE, key, "needs new pods, and rollout is Recreate")
    if seen.get(DIGEST_ANNOTATION) != annotations[DIGEST_ANNOTATION]:
        return Action(ActionKind.APPLY, key, "differs from what the route asks for", manifest)
    drift = next(_differences(manifest, child, ""), None)
    if drift is not None:
        return Action(ActionKind.APPLY, key, f"was changed by somebody else at {drift}", manifest)
    return None


def _claim_obstacle(route: HybridRoute, key: ObjectKey, child: Mapping[str, Any]) -> Obstacle | None:
    """Return why an object under a name that the route needs cannot be worked with, or None if it can."""
    if _is_going(child):
        [waits] = describe_leaving([{**child, "kind": key.kind}])
        return Obstacle(key, ConditionReason.TERMINATING, waits)
    if _is_left_behind(child, route):
        message = f"{key} is of a deleted route of the same name and waits for the garbage collector"
        return Obstacle(key, ConditionReason.TERMINATING, message)
    if not _is_ours(child, route):
        message = f"{key} exists and is not this route's: rename the route, or delete it"
        return Obstacle(key, ConditionReason.NAME_TAKEN, message)
    return None


def _is_recreated(route: HybridRoute, key: ObjectKey) -> bool:
    slm = route_names(route).part(Part.SLM)
    return key == ObjectKey("RayService", slm) and route.spec.slm.rollout is Rollout.RECREATE


def _is_ours(child: Mapping[str, Any], route: HybridRoute) -> bool:
    metadata = child["metadata"]
    owners = {owner.get("uid") for owner in metadata.get("ownerReferences") or ()}
    if owners:
        return route.metadata.uid in owners
    # Somebody may have taken the reference away; the labels still say whose it is.
    labels = metadata.get("labels") or {}
    return bool(
        labels.get(ROUTE_LABEL) == route.metadata.name
        and labels.get("app.kubernetes.io/managed-by") == MANAGER
    )


def _is_left_behind(child: Mapping[str, Any], route: HybridRoute) -> bool:
    """Whether a route of the same name, deleted since, owns the child."""
    owners = child["metadata"].get("ownerReferences") or ()
    namesakes = {
        owner.get("uid")
        for owner in owners
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name"))
        == (API_VERSION, KIND, route.metadata.name)
    }
    return bool(namesakes) and route.metadata.uid not in namesakes


def _frozen_difference(manifest: Manifest, child: Mapping[str, Any]) -> str | None:
    """Return the field that differs and cannot be changed in place: the object has to be made anew."""
    if manifest["kind"] == "RoleBinding" and child.get("roleRef") != manifest["roleRef"]:
        return "roleRef"
    if child.get("immutable") and child.get("data") != manifest.get("data"):
        return "data while it is immutable"
    return None


def _is_going(child: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in child["metadata"]


def _plan_sizes(route: HybridRoute, desired: tuple[Manifest, ...], observed: Observation) -> Iterator[Action]:
    services = {key_of(manifest): manifest for manifest in desired if manifest["kind"] == "RayService"}
    for part in Part:
        cluster = observed.ray_clusters.get(part)
        service = services.get(ObjectKey("RayService", route_names(route).part(part)))
        if cluster is None or service is None or _is_going(cluster):
            continue
        wanted = {
            group["groupName"]: group for group in service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        }
        patch: list[dict[str, Any]] = []
        for index, group in enumerate(cluster["spec"].get("workerGroupSpecs") or ()):
            bounds = wanted.get(group["groupName"], group)
            here = f"/spec/workerGroupSpecs/{index}"
            changes = [
                {"op": "add", "path": f"{here}/{bound}", "value": bounds[bound]}
                for bound in _BOUNDS
                if bounds.get(bound) != group.get(bound)
            ]
            if changes:
                patch += [
                    {"op": "test", "path": f"{here}/groupName", "value": group["groupName"]},
                    *changes,
                ]
        if patch:
            key = ObjectKey("RayCluster", cluster["metadata"]["name"])
            yield Action(ActionKind.RESIZE, key, "has other bounds than the route", patch=tuple(patch))


def _differences(desired: Any, observed: Any, path: str) -> Iterator[str]:
    """Yield the paths at which the observed value is not what is desired; fields of others are let be."""
    if isinstance(desired, dict) and isinstance(observed, dict):
        for key, value in desired.items():
            here = f"{path}.{key}" if path else str(key)
            if key in observed:
                yield from _differences(value, observed[key], here)
            elif value not in ({}, [], None):  # the API server drops what says nothing
                yield here
    elif isinstance(desired, list) and isinstance(observed, list):
        if len(desired) != len(observed):
            yield path
        for index, (value, seen) in enumerate(zip(desired, observed, strict=False)):
            yield from _differences(value, seen, f"{path}[{index}]")
    elif desired != observed and not (_QUANTITY_PATH.search(path) and _is_same_quantity(desired, observed)):
        yield path


_QUANTITY_PATH: Final = re.compile(r"\.resources\.(?:requests|limits)\.[^.]+$")
_QUANTITY: Final = re.compile(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i)?")
_UNITS: Final = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000)} | {
    unit + suffix: Decimal(base**power)
    for suffix, base in (("", 1000), ("i", 1024))
    for power, unit in enumerate("KMGT", start=1)
}


def _is_same_quantity(desired: Any, observed: Any) -> bool:
    """Say whether two amounts are one: KubeRay writes 3072Mi as 3Gi and 1000m as 1."""
    found = [_QUANTITY.fullmatch(str(value)) for value in (desired, observed)]
    amounts = [Decimal(match[1]) * _UNITS[match[2] or ""] for match in found if match is not None]
    return len(amounts) == 2 and amounts[0] == amounts[1]


def _without_bounds(cluster: dict[str, Any]) -> dict[str, Any]:
    groups = [
        {key: value for key, value in group.items() if key not in _BOUNDS}
        for group in cluster["workerGroupSpecs"]
    ]
    return cluster | {"workerGroupSpecs": groups}


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
