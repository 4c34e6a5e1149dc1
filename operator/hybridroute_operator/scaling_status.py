"""What a status says of recent scaling: which part went from how many replicas to how many, and why. Pure.

Serve's autoscaler decides; this is what came of it, seen from one status to the next. A change that is undone before
the next status is written leaves no trace.
"""

from datetime import datetime
from typing import Final

from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.scaling import Scaling
from hybridroute_api.v1alpha1.status import PathsStatus, ScalingDecision
from hybridroute_operator.observation import AppPhase, Observation, parse_application_states
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.names import Part
from hybridroute_render.kubernetes.objects import route_names
from hybridroute_render.serve_config import LLM_APP, ROUTER_APP, SLM_APP

__all__ = ["decide_scaling"]

_MOST: Final = 5


def decide_scaling(
    route: HybridRoute,
    observed: Observation,
    paths: PathsStatus,
    previous: HybridRouteStatus | None,
    now: datetime,
) -> tuple[ScalingDecision, ...]:
    """Return the last decisions, the newest first. A route that comes up is not one that is scaled."""
    if previous is None or previous.paths == PathsStatus():
        return previous.scaling if previous else ()
    spec, names = route.spec, route_names(route)
    parts: tuple[tuple[str, str, Part, Scaling], ...] = (
        ("router", ROUTER_APP, Part.GATEWAY, spec.routing.scaling),
        ("slm", SLM_APP, Part.SLM, spec.slm.scaling),
        ("llm", LLM_APP, Part.GATEWAY, spec.llm.scaling),
    )
    made = []
    for name, app, part, scaling in parts:
        before: int = getattr(previous.paths, name).ready_replicas
        after: int = getattr(paths, name).ready_replicas
        if before != after:
            service = observed.children.get(ObjectKey("RayService", names.part(part)))
            state = parse_application_states(service).get(app)
            changing = state is not None and state.phase is AppPhase.CHANGING
            reason = _reason(before, after, scaling, changing=changing)
            made.append(ScalingDecision(at=now, part=name, before=before, after=after, reason=reason))
    return (*made, *previous.scaling)[:_MOST]


def _reason(before: int, after: int, scaling: Scaling, *, changing: bool) -> str:
    low, high = scaling.min_replicas, scaling.max_replicas
    if changing:
        return "Serve is bringing the application to another state"
    if after < before and after < low:
        return f"replicas were lost: minReplicas is {low}"
    if before < low:
        return f"replicas came up to minReplicas, {low}"
    if before > high:
        return f"maxReplicas was lowered to {high}"
    side = "more" if after > before else "fewer"
    return f"{side} requests at once than targetOngoingRequests, {scaling.target_ongoing_requests} a replica, asks for"
