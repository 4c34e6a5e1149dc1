"""The loop's body: parse → observe → render → plan → apply → status, the same for every cause.

It keeps nothing between rounds but when it last wrote a status and what it last said of a deleted route; whatever it
does may be interrupted anywhere, and the next round ends the same. Nothing here knows kopf or the Kubernetes client.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, ConditionType
from hybridroute_api.v1alpha1.resource import RULES_ERROR
from hybridroute_api.vocabulary import Mode
from hybridroute_operator.accepted import parse_accepted
from hybridroute_operator.cluster.port import Cluster, RouteEvent
from hybridroute_operator.errors import ApiForbiddenError, ApiRejectedError, OperatorError
from hybridroute_operator.observation import RouteKey
from hybridroute_operator.plan import Action, ActionKind, plan_actions
from hybridroute_operator.status import (
    decide_refused_status,
    decide_status,
    is_worth_writing,
    turned_conditions,
)
from hybridroute_render.kubernetes.kinds import ObjectKey, key_of
from hybridroute_render.kubernetes.leftovers import describe_leaving
from hybridroute_render.kubernetes.names import RouteNames
from hybridroute_render.kubernetes.objects import render_internal_secret, render_objects, route_names
from hybridroute_render.kubernetes.problems import cluster_problems
from hybridroute_render.kubernetes.settings import ClusterSettings

__all__ = ["Reconciler", "Round"]

_LOG = logging.getLogger(__name__)

_NOT_TOLD: Final = frozenset({ConditionReason.NOT_BUDGETED})
"""Reasons that are no news."""

_LEAVING_SECONDS: Final = 30.0
"""A deletion that takes longer is worth an event: KubeRay answers within seconds when it runs."""

_SETTLED_SECONDS: Final = 30.0
"""How soon a route at rest is looked at again: figures are as old as this at most."""
_MOVING_SECONDS: Final = 5.0
"""The same while something is on its way whose progress sends no event of its own."""


@dataclass(frozen=True, slots=True)
class Round:
    """What one round came to."""

    writes: int
    """Objects written, the status apart."""
    wrote_status: bool
    again_seconds: float | None
    """When to look again at the latest; None for a route that is gone or going."""


class Reconciler:
    """Brings one route after another to what it asks for."""

    def __init__(
        self,
        cluster: Cluster,
        settings: ClusterSettings,
        *,
        now: Callable[[], datetime],
        make_token: Callable[[], str],
    ) -> None:
        self._cluster = cluster
        self._settings = settings
        self._now = now
        self._make_token = make_token
        self._written_at: dict[RouteKey, datetime] = {}
        self._said_of_gone: dict[RouteKey, str] = {}

    async def reconcile(self, key: RouteKey) -> Round:
        """Do one round. Raises an `OperatorError` when the API server did not let it finish."""
        document = await self._cluster.read_route(key)
        if document is None or "deletionTimestamp" in document["metadata"]:
            return await self._watch_leaving(key)
        previous = _parse_status(document)
        route, refusal = _parse_route(document)
        if route is None:
            route = await self._read_accepted(key, document)
        if route is None:
            status = decide_refused_status(
                refusal, _mode_of(document), document["metadata"].get("generation", 0), previous, self._now()
            )
            wrote = await self._write_status(key, document, previous, status)
            return Round(0, wrote_status=wrote, again_seconds=_SETTLED_SECONDS)
        desired = render_objects(route, self._settings)
        names = route_names(route)
        once = (ObjectKey("ConfigMap", names.ledger), ObjectKey("Secret", names.internal))
        wanted = (*once, *(key_of(manifest) for manifest in desired))
        observed = await self._cluster.observe(route, wanted)
        plan = plan_actions(route, desired, observed)
        refused: list[OperatorError] = []
        for action in plan.actions:
            error = await self._try(key, document, route, action)
            refused += [error] if error is not None else []
            if error is not None and action.kind is ActionKind.CREATE_LEDGER:
                break
        status = decide_status(route, plan, observed, previous, self._now(), refusal=refusal)
        wrote = await self._write_status(key, document, previous, status)
        settled = not plan.actions and _is_true(status, ConditionType.READY) and not _is_degraded(status)
        if refused:
            raise refused[0]
        again = _SETTLED_SECONDS if settled else _MOVING_SECONDS
        return Round(len(plan.actions), wrote_status=wrote, again_seconds=again)

    async def _read_accepted(self, key: RouteKey, document: dict[str, Any]) -> HybridRoute | None:
        """Return the route as it was accepted last: what a refused spec left running is still repaired."""
        name = RouteNames(key.name, key.namespace).accepted
        return parse_accepted(
            document, await self._cluster.read_object(ObjectKey("ConfigMap", name), key.namespace)
        )

    async def _watch_leaving(self, key: RouteKey) -> Round:
        """Say once what a deleted route waits for. Owner references do the rest; nothing waits for this operator."""
        self._written_at.pop(key, None)
        services = await self._cluster.list_services(key)
        leaving = [item for item in services if "deletionTimestamp" in item["metadata"]]
        if not leaving:
            self._said_of_gone.pop(key, None)
            return Round(0, wrote_status=False, again_seconds=None)
        late = [
            item for item in leaving if self._now() - _deleted_at(item) >= timedelta(seconds=_LEAVING_SECONDS)
        ]
        told = "; ".join(describe_leaving(late))
        if told and self._said_of_gone.get(key) != told:
            _LOG.warning("deletion waits route=%s reason=%s", key, told)
            event = RouteEvent(warning=True, reason=ConditionReason.TERMINATING, message=told)
            await self._cluster.record_event(_gone_document(key, late[0]), event)
            self._said_of_gone[key] = told
        return Round(0, wrote_status=False, again_seconds=_LEAVING_SECONDS)

    async def _try(
        self, key: RouteKey, document: dict[str, Any], route: HybridRoute, action: Action
    ) -> OperatorError | None:
        """Do one action. What the API server refuses for good stops neither the other actions nor the status."""
        try:
            await self._execute(route, action)
        except (ApiRejectedError, ApiForbiddenError) as error:
            _LOG.warning("%s was refused route=%s reason=%s", action.key, key, error)
            event = RouteEvent(warning=True, reason=error.reason, message=f"{action.key}: {error}")
            await self._cluster.record_event(document, event)
            return error
        await self._tell_action(key, document, action)
        return None

    async def _execute(self, route: HybridRoute, action: Action) -> None:
        namespace = route_names(route).namespace
        match action.kind:
            case ActionKind.CREATE_TOKENS:
                tokens = {"token": self._make_token(), "metrics_token": self._make_token()}
                await self._cluster.create(render_internal_secret(route, **tokens))
            case ActionKind.CREATE_LEDGER:
                assert action.manifest is not None  # noqa: S101 - a CREATE_LEDGER carries its manifest
                await self._cluster.create(action.manifest)
            case ActionKind.APPLY:
                assert action.manifest is not None  # noqa: S101 - an APPLY carries its manifest
                await self._cluster.apply(action.manifest)
            case ActionKind.DELETE:
                await self._cluster.delete(action.key, namespace)
            case ActionKind.RESIZE:
                await self._cluster.patch(action.key, namespace, action.patch)

    async def _tell_action(self, key: RouteKey, document: dict[str, Any], action: Action) -> None:
        verb = {ActionKind.DELETE: "deleted", ActionKind.RESIZE: "resized"}.get(action.kind, "applied")
        _LOG.info("%s was %s route=%s reason=%s", action.key, verb, key, action.reason)
        message = f"{action.key} was {verb} because it {action.reason}"
        await self._cluster.record_event(
            document, RouteEvent(warning=False, reason=action.kind.value, message=message)
        )

    async def _write_status(
        self,
        key: RouteKey,
        document: dict[str, Any],
        previous: HybridRouteStatus | None,
        status: HybridRouteStatus,
    ) -> bool:
        now = self._now()
        since = now - self._written_at[key] if key in self._written_at else timedelta.max
        if not is_worth_writing(previous, status, since_write=since):
            return False
        await self._cluster.write_status(
            key, status.model_dump(mode="json", by_alias=True, exclude_none=True)
        )
        self._written_at[key] = now
        for condition in turned_conditions(previous, status):
            good = ConditionStatus.FALSE if condition.type is ConditionType.DEGRADED else ConditionStatus.TRUE
            _LOG.info(
                "condition turned route=%s type=%s status=%s reason=%s",
                key,
                condition.type,
                condition.status,
                condition.reason,
            )
            if condition.status is not ConditionStatus.UNKNOWN and condition.reason not in _NOT_TOLD:
                message = f"{condition.type} is {condition.status}: {condition.message or condition.reason}"
                warning = condition.status is not good
                await self._cluster.record_event(document, RouteEvent(warning, condition.reason, message))
        return True


def _parse_route(document: dict[str, Any]) -> tuple[HybridRoute | None, str]:
    """Return the route, or None and every reason why it is refused."""
    try:
        route = HybridRoute.model_validate({k: v for k, v in document.items() if k != "status"})
    except ValidationError as error:
        return None, "; ".join(_told(item) for item in error.errors(include_url=False, include_input=False))
    problems = cluster_problems(route)
    if problems:
        return None, "; ".join(f"{_dotted(problem.location)} {problem.message}" for problem in problems)
    return route, ""


def _deleted_at(item: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(item["metadata"]["deletionTimestamp"])


def _gone_document(key: RouteKey, child: dict[str, Any]) -> dict[str, Any]:
    """Return what an event needs of a route that is gone; a child of it still knows its identity."""
    owners: list[dict[str, Any]] = child["metadata"].get("ownerReferences") or [{}]
    return {"metadata": {"name": key.name, "namespace": key.namespace, "uid": owners[0].get("uid", "")}}


def _told(error: Any) -> str:
    if error["type"] == RULES_ERROR:
        return str(error["ctx"]["text"])
    return f"{_dotted(error['loc'])} is refused: {error['msg']}"


def _dotted(location: tuple[str | int, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _parse_status(document: dict[str, Any]) -> HybridRouteStatus | None:
    try:
        return HybridRouteStatus.model_validate(document["status"]) if "status" in document else None
    except ValidationError:
        return None  # written by another version; this one writes its own


def _mode_of(document: dict[str, Any]) -> Mode:
    try:
        return Mode(document.get("spec", {}).get("mode", Mode.HYBRID))
    except ValueError:
        return Mode.HYBRID


def _is_true(status: HybridRouteStatus, kind: ConditionType) -> bool:
    return any(c.type is kind and c.status is ConditionStatus.TRUE for c in status.conditions)


def _is_degraded(status: HybridRouteStatus) -> bool:
    return not any(
        c.type is ConditionType.DEGRADED and c.status is ConditionStatus.FALSE for c in status.conditions
    )
