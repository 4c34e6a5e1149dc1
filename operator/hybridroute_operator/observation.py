"""Everything the loop knows of a route in the cluster, gathered once per round. Values and pure parsers.

What comes from KubeRay is parsed here into what the product means by it; nothing further in reads its status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

from hybridroute_api.facts import BREAKER_STATE, SLM_READY_REPLICAS
from hybridroute_api.quantities import parse_decimal, parse_usd
from hybridroute_api.v1alpha1.conditions import ConditionReason, ConditionStatus, Verdict
from hybridroute_api.vocabulary import Mode, PathName
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.names import Part

__all__ = [
    "AppPhase",
    "AppState",
    "BudgetState",
    "GatewayState",
    "GuaranteeState",
    "Observation",
    "PodState",
    "RouteKey",
    "active_cluster",
    "is_replaced",
    "parse_application_states",
    "parse_gateway_state",
    "parse_pod_state",
]


@dataclass(frozen=True, slots=True, order=True)
class RouteKey:
    """Namespace and name of a HybridRoute."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class AppPhase(StrEnum):
    """What Ray Serve says of an application."""

    RUNNING = "running"
    CHANGING = "changing"
    """On its way to a new state; replicas of the old one may serve."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AppState:
    """One Serve application."""

    phase: AppPhase
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodState:
    """What matters of a pod."""

    name: str
    ready: bool
    unschedulable: str = ""
    """The scheduler's words when no node has room; empty otherwise."""
    waiting: str = ""
    """Why a container waits, such as an image that cannot be pulled; empty otherwise."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """The route's dollar budget in its current window."""

    limit_nano_usd: int
    spent_nano_usd: int
    reserved_nano_usd: int
    resets_at: datetime
    past_unknown: bool


@dataclass(frozen=True, slots=True)
class GuaranteeState:
    """Whether the promise of the calibrated policy holds."""

    verdict: Verdict
    message: str = ""


@dataclass(frozen=True, slots=True)
class GatewayState:
    """What the keeper says: replicas that report, the policy in force, money."""

    mode: Mode | None
    policy_version: str
    policy_error: str
    replicas: Mapping[str, int]
    """Application → replicas alive."""
    requests: Mapping[PathName, int]
    slm_nano_usd: int
    slm_idle_nano_usd: int
    llm_nano_usd: int
    all_llm_nano_usd: int
    saved_usd: Decimal
    slm_found: bool | None = None
    """Whether a router finds a ready replica of the SLM; None while no router has said."""
    down_upstreams: frozenset[str] = frozenset()
    """Upstreams whose breaker no llm-proxy replica has closed."""
    budget: BudgetState | None = None
    """None without a budget, and until the keeper has seen its ledger."""
    policy_digest: str = ""
    """Of the calibrated policy in force; empty without one."""
    policy_problem: str = ""
    """Why the calibrated policy that the route names is not in force; empty when it is."""
    guarantee: GuaranteeState | None = None
    """None from a keeper of before there was one."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One round's facts."""

    children: Mapping[ObjectKey, dict[str, Any]] = field(default_factory=dict)
    """Objects that exist under the names that the route needs, whoever owns them, and stale ones of the route."""
    secret_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names of the entries of each Secret that the spec names. Never a value."""
    config_map_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The same of each ConfigMap that the spec names."""
    ray_clusters: Mapping[Part, dict[str, Any]] = field(default_factory=dict)
    """The active RayCluster of each part."""
    pods: Mapping[Part, tuple[PodState, ...]] = field(default_factory=dict)
    missing_kinds: frozenset[str] = frozenset()
    """Kinds that the API server does not serve."""
    gateway: GatewayState | None = None
    """None while the keeper does not answer."""


_RUNNING = frozenset({"RUNNING"})
_FAILED = frozenset({"DEPLOY_FAILED", "UNHEALTHY"})


def parse_application_states(ray_service: Mapping[str, Any] | None) -> dict[str, AppState]:
    """Return the applications of a RayService's active cluster; none while there is no word of them.

    Before the first cluster serves they are those of the one that is to: what fails there fails for everybody.
    """
    status = (ray_service or {}).get("status") or {}
    serving = active_cluster(ray_service) is not None
    told = status.get("activeServiceStatus" if serving else "pendingServiceStatus") or {}
    found = {}
    for name, state in (told.get("applicationStatuses") or {}).items():
        word = state.get("status", "")
        phase = (
            AppPhase.RUNNING
            if serving and word in _RUNNING
            else AppPhase.FAILED
            if word in _FAILED
            else AppPhase.CHANGING
        )
        found[name] = AppState(phase, (state.get("message") or "").strip())
    return found


def active_cluster(ray_service: Mapping[str, Any] | None) -> str | None:
    """Return the name of the RayCluster that serves, or None before there is one."""
    active = ((ray_service or {}).get("status") or {}).get("activeServiceStatus") or {}
    return active.get("rayClusterName") or None


def is_replaced(ray_service: Mapping[str, Any] | None) -> bool:
    """Return whether a RayCluster serves and another is to take its place."""
    pending = ((ray_service or {}).get("status") or {}).get("pendingServiceStatus") or {}
    return active_cluster(ray_service) is not None and bool(pending.get("rayClusterName"))


def parse_pod_state(pod: Mapping[str, Any]) -> PodState:
    """Return what matters of a pod."""
    status = pod.get("status") or {}
    conditions = {item["type"]: item for item in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    unschedulable = scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else ""
    waits = [
        (container.get("state") or {}).get("waiting") or {}
        for container in status.get("containerStatuses") or ()
    ]
    waiting = next((w for w in waits if w.get("reason") not in (None, "ContainerCreating")), {})
    return PodState(
        name=pod["metadata"]["name"],
        ready=conditions.get("Ready", {}).get("status") == "True",
        unschedulable=unschedulable,
        waiting=": ".join(filter(None, (waiting.get("reason"), waiting.get("message")))),
    )


def parse_gateway_state(state: Mapping[str, Any]) -> GatewayState:
    """Return what the keeper's `/state` says. Raises KeyError or ValueError for anything else."""
    costs = state["totals"]
    paths = costs["paths"]
    return GatewayState(
        mode=Mode(state["live"]["mode"]) if state["live"]["mode"] else None,
        policy_version=state["live"]["version"] or "",
        policy_error=state["live"]["error"] or "",
        replicas={app: sum(item["alive"] for item in items) for app, items in state["replicas"].items()},
        requests={path: int(paths[path]["requests"]) for path in PathName},
        slm_nano_usd=parse_usd(paths[PathName.SLM]["usd"]),
        slm_idle_nano_usd=parse_usd(paths[PathName.SLM]["idle_usd"]),
        llm_nano_usd=parse_usd(paths[PathName.LLM]["usd"]),
        all_llm_nano_usd=parse_usd(costs["all_llm_usd"]),
        saved_usd=parse_decimal(costs["saved_usd"]),
        slm_found=_parse_slm_found(state["replicas"].get("router", ())),
        down_upstreams=_parse_down_upstreams(state["replicas"].get("llm-proxy", ())),
        budget=_parse_budget(state["budget"]) if state["budget"] is not None else None,
        policy_digest=(state.get("policy") or {}).get("digest") or "",
        policy_problem=(state.get("policy") or {}).get("problem") or "",
        guarantee=_parse_guarantee(state["guarantee"]) if state.get("guarantee") else None,
    )


def _parse_slm_found(routers: Iterable[Mapping[str, Any]]) -> bool | None:
    told = [
        router["facts"][SLM_READY_REPLICAS]
        for router in routers
        if router["alive"] and SLM_READY_REPLICAS in (router.get("facts") or {})
    ]
    return any(int(replicas) > 0 for replicas in told) if told else None


def _parse_down_upstreams(replicas: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    seen: dict[str, set[str]] = {}
    for replica in replicas:
        facts: Mapping[str, str] = (replica.get("facts") or {}) if replica["alive"] else {}
        for fact, value in facts.items():
            if fact.startswith(BREAKER_STATE):
                seen.setdefault(fact.removeprefix(BREAKER_STATE), set()).add(value)
    return frozenset(name for name, states in seen.items() if "closed" not in states)


def _parse_guarantee(guarantee: Mapping[str, Any]) -> GuaranteeState:
    verdict = Verdict(ConditionStatus(guarantee["status"]), ConditionReason(guarantee["reason"]))
    return GuaranteeState(verdict, guarantee["message"])


def _parse_budget(budget: Mapping[str, Any]) -> BudgetState:
    return BudgetState(
        limit_nano_usd=parse_usd(budget["limit_usd"]),
        spent_nano_usd=parse_usd(budget["spent_usd"]),
        reserved_nano_usd=parse_usd(budget["reserved_usd"]),
        resets_at=datetime.fromtimestamp(round(budget["resets_at"]), UTC),
        past_unknown=budget["past_unknown"],
    )
