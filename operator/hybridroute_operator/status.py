"""Observation → HybridRouteStatus, with typed conditions. Pure, and the only place where a status is made.

Each condition is a verdict with a reason and a message that a person can act on; Ready and Degraded follow from the
others by the tables in `hybridroute_api.v1alpha1.conditions`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from hybridroute_api.quantities import format_usd
from hybridroute_api.v1alpha1 import HybridRoute, HybridRouteStatus
from hybridroute_api.v1alpha1.conditions import (
    ConditionReason,
    ConditionStatus,
    ConditionType,
    PartStates,
    Verdict,
    decide_degraded,
    decide_ready,
)
from hybridroute_api.v1alpha1.status import Condition, PathsStatus, PathStatus, StatusCost
from hybridroute_api.vocabulary import Mode, PathName
from hybridroute_operator.budget_status import decide_budget, judge_budget, total_spent_nano_usd
from hybridroute_operator.guarantee_status import judge_guarantee
from hybridroute_operator.observation import (
    AppPhase,
    GatewayState,
    Observation,
    PodState,
    is_replaced,
    parse_application_states,
)
from hybridroute_operator.plan import Plan
from hybridroute_operator.references import clients_problem, upstreams_problem
from hybridroute_operator.scaling_status import decide_scaling
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.names import Part
from hybridroute_render.kubernetes.objects import route_names, route_url
from hybridroute_render.serve_config import LLM_APP, ROUTER_APP, SLM_APP

__all__ = [
    "STATUS_PERIOD",
    "Told",
    "decide_refused_status",
    "decide_status",
    "is_worth_writing",
    "turned_conditions",
]

STATUS_PERIOD: Final = timedelta(seconds=30)
"""Figures alone are written at most this often; a condition that turns is written at once."""

_DECIDING: Final = frozenset(
    {
        ConditionType.ACCEPTED,
        ConditionType.ROUTER_READY,
        ConditionType.SLM_READY,
        ConditionType.LLM_READY,
    }
)
"""What Ready and Degraded follow from."""

T, F, U = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True, slots=True)
class Told:
    """A verdict with its words for people."""

    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class _Facts:
    route: HybridRoute
    plan: Plan
    observed: Observation
    previous: HybridRouteStatus | None


def decide_status(
    route: HybridRoute,
    plan: Plan,
    observed: Observation,
    previous: HybridRouteStatus | None,
    now: datetime,
    *,
    refusal: str = "",
) -> HybridRouteStatus:
    """Return the status of a route whose objects are kept as `route` asks.

    `refusal`: why its present spec is refused; `route` is then what was accepted last.
    """
    facts = _Facts(route, plan, observed, previous)
    taken = next((o for o in plan.obstacles if o.reason is ConditionReason.NAME_TAKEN), None)
    accepted = Told(Verdict(T, ConditionReason.VALID))
    if refusal:
        accepted = Told(Verdict(F, ConditionReason.INVALID), refusal)
    elif taken is not None:
        accepted = Told(Verdict(F, taken.reason), taken.message)
    gateway = observed.gateway
    told = {
        ConditionType.ACCEPTED: accepted,
        ConditionType.ROUTER_READY: _missing(clients_problem(route, observed))
        or _judge(facts, Part.GATEWAY, ROUTER_APP, ConditionType.ROUTER_READY),
        ConditionType.SLM_READY: _if_reached(
            _judge(facts, Part.SLM, SLM_APP, ConditionType.SLM_READY), gateway
        ),
        ConditionType.LLM_READY: _missing(upstreams_problem(route, observed))
        or _upstreams_down(route, gateway)
        or _judge(facts, Part.GATEWAY, LLM_APP, ConditionType.LLM_READY),
    }
    told[ConditionType.BUDGET_AVAILABLE] = Told(*judge_budget(route, gateway, previous))
    told[ConditionType.GUARANTEE_VALID] = Told(*judge_guarantee(route, observed, previous))
    budget = decide_budget(route, gateway, previous)
    paths = _paths(gateway, previous)
    return HybridRouteStatus(
        observed_generation=route.metadata.generation,
        url=route_url(route),
        mode=gateway.mode if gateway else previous.mode if previous else None,
        policy_version=gateway.policy_version if gateway else previous.policy_version if previous else "",
        policy_digest=gateway.policy_digest if gateway else previous.policy_digest if previous else "",
        conditions=_conditions(told, route.spec.mode, route.metadata.generation, previous, now),
        paths=paths,
        scaling=decide_scaling(route, observed, paths, previous, now),
        slm_percent=_slm_percent(gateway) if gateway else previous.slm_percent if previous else None,
        budget=budget,
        cost=_cost(gateway) if gateway else previous.cost if previous else StatusCost(),
    ).model_copy(update={"spent_nano_usd": total_spent_nano_usd(budget, gateway, previous)})


def decide_refused_status(
    message: str, mode: Mode, generation: int, previous: HybridRouteStatus | None, now: datetime
) -> HybridRouteStatus:
    """Return the status of a route that is refused and of which nobody knows what was accepted before, if anything."""
    unknown = Told(Verdict(U, ConditionReason.NOT_ACCEPTED))
    told = {
        ConditionType.ACCEPTED: Told(Verdict(F, ConditionReason.INVALID), message),
        ConditionType.ROUTER_READY: unknown,
        ConditionType.SLM_READY: unknown,
        ConditionType.LLM_READY: unknown,
        ConditionType.BUDGET_AVAILABLE: unknown,
        ConditionType.GUARANTEE_VALID: unknown,
    }
    conditions = _conditions(told, mode, generation, previous, now)
    kept = previous or HybridRouteStatus()
    return kept.model_copy(update={"observed_generation": generation, "conditions": conditions})


def is_worth_writing(
    previous: HybridRouteStatus | None, new: HybridRouteStatus, *, since_write: timedelta
) -> bool:
    """Return whether a status is to be written: at once where a person would notice, else when figures are old."""
    if previous is None:
        return True
    figures = {"paths", "scaling", "slm_percent", "spent_nano_usd", "budget", "cost"}
    if previous.model_dump(exclude=figures) != new.model_dump(exclude=figures):
        return True
    return previous != new and since_write >= STATUS_PERIOD


def turned_conditions(previous: HybridRouteStatus | None, new: HybridRouteStatus) -> tuple[Condition, ...]:
    """Return the conditions whose status or reason is new; they become events."""
    before = {c.type: (c.status, c.reason) for c in previous.conditions} if previous else {}
    return tuple(c for c in new.conditions if before.get(c.type) != (c.status, c.reason))


def _judge(facts: _Facts, part: Part, app: str, kind: ConditionType) -> Told:
    """Return the verdict on one application, by the first check that has one."""
    key = ObjectKey("RayService", route_names(facts.route).part(part))
    service = facts.observed.children.get(key)
    state = parse_application_states(service).get(app)
    obstacle = next((o for o in facts.plan.obstacles if o.key == key), None)
    pods = facts.observed.pods.get(part, ())
    stuck = next((pod for pod in pods if pod.unschedulable or pod.waiting), None)
    if obstacle is not None and obstacle.reason is not ConditionReason.NAME_TAKEN:
        return Told(Verdict(F, obstacle.reason), obstacle.message)
    if state is not None and state.phase is AppPhase.RUNNING:
        return Told(Verdict(T, ConditionReason.REPLICAS_UP))
    if state is None and is_replaced(service) and _answers(app, facts.observed.gateway):
        # KubeRay says nothing of the applications that serve while another cluster is on its way.
        waits = f": {_tell_pod(stuck)}" if stuck is not None else ""
        return Told(Verdict(T, ConditionReason.REPLICAS_UP), f"another cluster is on its way{waits}")
    if state is not None and state.phase is AppPhase.FAILED:
        return Told(Verdict(F, ConditionReason.DEPLOY_FAILED), _shorten(state.message))
    if stuck is not None:
        reason = ConditionReason.UNSCHEDULABLE if stuck.unschedulable else ConditionReason.POD_FAILED
        return Told(Verdict(F, reason), _tell_pod(stuck))
    if state is not None and _was_true(facts.previous, kind):
        # Serve changes it in place; the replicas of before serve until the new ones do.
        return Told(Verdict(T, ConditionReason.REPLICAS_UP), "an update is under way")
    return Told(Verdict(U, ConditionReason.STARTING))


def _answers(app: str, gateway: GatewayState | None) -> bool:
    """Return whether the keeper that serves hears from replicas of an application; routers judge the SLM."""
    if gateway is None:
        return False
    return gateway.slm_found is True if app == SLM_APP else gateway.replicas.get(app, 0) > 0


def _tell_pod(stuck: PodState) -> str:
    if stuck.unschedulable:
        return f"pod {stuck.name} waits for a node: {_shorten(stuck.unschedulable)}"
    return f"pod {stuck.name} does not start: {_shorten(stuck.waiting)}"


def _if_reached(told: Told, gateway: GatewayState | None) -> Told:
    """Return the verdict on the SLM, unless it is good and no router shares it."""
    if told.verdict.status is not T or gateway is None or gateway.slm_found is not False:
        return told
    return Told(Verdict(U, ConditionReason.NOT_REACHED), "its replicas answer, but no router finds one ready")


def _missing(problem: str) -> Told | None:
    return Told(Verdict(F, ConditionReason.CREDENTIALS_MISSING), problem) if problem else None


def _upstreams_down(route: HybridRoute, gateway: GatewayState | None) -> Told | None:
    names = [upstream.name for upstream in route.spec.llm.upstreams]
    if gateway is None or not gateway.down_upstreams.issuperset(names):
        return None
    told = f"every replica of the LLM proxy has found these upstreams down: {', '.join(names)}"
    return Told(Verdict(F, ConditionReason.UPSTREAMS_DOWN), told)


def _conditions(
    told: dict[ConditionType, Told],
    mode: Mode,
    generation: int,
    previous: HybridRouteStatus | None,
    now: datetime,
) -> tuple[Condition, ...]:
    parts = PartStates(
        mode=mode,
        accepted=told[ConditionType.ACCEPTED].verdict.status,
        router=told[ConditionType.ROUTER_READY].verdict.status,
        slm=told[ConditionType.SLM_READY].verdict.status,
        llm=told[ConditionType.LLM_READY].verdict.status,
    )
    ready, degraded = decide_ready(parts), decide_degraded(parts)
    blamed = "; ".join(
        item.message
        for kind, item in told.items()
        if kind in _DECIDING and item.verdict.status is F and item.message
    )
    all_told = {
        ConditionType.READY: Told(ready, "" if ready.status is T else blamed),
        **told,
        ConditionType.DEGRADED: Told(degraded, blamed if degraded.status is T else ""),
    }
    before = {condition.type: condition for condition in previous.conditions} if previous else {}
    conditions = []
    for kind, item in all_told.items():
        old = before.get(kind)
        unchanged = old is not None and old.status is item.verdict.status
        conditions.append(
            Condition(
                type=kind,
                status=item.verdict.status,
                reason=item.verdict.reason.value,
                message=item.message,
                last_transition_time=old.last_transition_time if old is not None and unchanged else now,
                observed_generation=generation,
            )
        )
    return tuple(conditions)


def _was_true(previous: HybridRouteStatus | None, kind: ConditionType) -> bool:
    return previous is not None and any(c.type is kind and c.status is T for c in previous.conditions)


def _paths(gateway: GatewayState | None, previous: HybridRouteStatus | None) -> PathsStatus:
    if gateway is None:
        return previous.paths if previous else PathsStatus()
    ready = {app: gateway.replicas.get(app, 0) for app in (ROUTER_APP, SLM_APP, LLM_APP)}
    return PathsStatus(
        router=PathStatus(ready_replicas=ready[ROUTER_APP], replicas=ready[ROUTER_APP]),
        slm=PathStatus(ready_replicas=ready[SLM_APP], replicas=ready[SLM_APP]),
        llm=PathStatus(ready_replicas=ready[LLM_APP], replicas=ready[LLM_APP]),
    )


def _slm_percent(gateway: GatewayState) -> int | None:
    total = sum(gateway.requests.values())
    return round(100 * gateway.requests[PathName.SLM] / total) if total else None


def _cost(gateway: GatewayState) -> StatusCost:
    total = gateway.slm_nano_usd + gateway.slm_idle_nano_usd + gateway.llm_nano_usd
    return StatusCost.model_validate(
        {
            "slmUSD": format_usd(gateway.slm_nano_usd),
            "slmIdleUSD": format_usd(gateway.slm_idle_nano_usd),
            "llmUSD": format_usd(gateway.llm_nano_usd),
            "totalUSD": format_usd(total),
            "savedUSD": gateway.saved_usd,
            "allLLMUSD": format_usd(gateway.all_llm_nano_usd),
        }
    )


def _shorten(text: str, limit: int = 500) -> str:
    words = " ".join(text.split())
    return words if len(words) <= limit else f"{words[: limit - 1]}…"
