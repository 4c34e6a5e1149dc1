"""What is remembered of one artifact's drift: where the charts stand, the alarm, and what voided the promise. Pure.

Two things end at different times. The *alarm*, and with it the action, ends when every chart that rang has fallen to
half its limit, and the audit's pairs differ no more often than is usual. The promise that it *voided* stays void: what
the traffic did in between is not known, so only another artifact, certified on new labels, restores it. The keeper runs
one watch for the whole fleet (`hybridroute_serve.keeper.drift`); what an alarm does to a decision is `action`'s.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from hybridroute_serve.routing.drift.charts import DriftCharts, DriftState
from hybridroute_serve.routing.drift.disagreement import (
    DisagreementState,
    begin_next_run,
    disagreement_level,
    is_usual_again,
    observe_disagreement,
)

__all__ = [
    "AUDIT_CHART",
    "Alarm",
    "DriftWatch",
    "Observation",
    "Turn",
    "show_evidence",
    "stop_audit",
    "watch_comparison",
    "watch_request",
]

AUDIT_CHART = "audit"
"""Name of the e-process beside the names of the charts."""


class Turn(StrEnum):
    """What an observation did to the alarm."""

    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class Observation:
    """What the charts must know of one scored request."""

    scope: float
    cluster: int
    topic: int
    confidence: float | None


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm, with its evidence at the moment it was raised."""

    at: float
    """Unix seconds."""
    requests: int
    """Requests that the charts had seen."""
    charts: tuple[str, ...]
    """Those that rang."""
    evidence: dict[str, float]
    """Each chart's level as a share of its limit."""
    audit: DisagreementState | None = None
    """Where the audit's e-process stood; None unless it rang."""


@dataclass(frozen=True, slots=True)
class DriftWatch:
    """One artifact's drift."""

    state: DriftState = field(default_factory=DriftState)
    disagreement: DisagreementState = field(default_factory=DisagreementState)
    audit_rings: bool = False
    audit_stopped_at: float | None = None
    """Unix seconds since which the dollar budget has borne no audit; None while it does."""
    alarm: Alarm | None = None
    """The alarm in force."""
    voided_by: Alarm | None = None
    """The first alarm there was: the promise is void until another artifact is put in place."""
    alarms: int = 0
    """Alarms so far."""

    @property
    def ringing(self) -> tuple[str, ...]:
        """Charts that ring now."""
        return (*self.state.ringing, *((AUDIT_CHART,) if self.audit_rings else ()))


def watch_request(
    watch: DriftWatch, charts: DriftCharts, observation: Observation, now: float
) -> tuple[DriftWatch, Turn | None]:
    """Return the watch after one more scored request, and what that did to the alarm."""
    state = charts.observe(
        watch.state,
        scope=observation.scope,
        cluster=observation.cluster,
        topic=observation.topic,
        confidence=observation.confidence,
    )
    return _turn(replace(watch, state=state), charts, now)


def watch_comparison(
    watch: DriftWatch, charts: DriftCharts | None, disagreement: float, now: float
) -> tuple[DriftWatch, Turn | None]:
    """Return the watch after both paths' answers to a kept request were compared."""
    state = observe_disagreement(watch.disagreement, disagreement)
    rings = not is_usual_again(state) if watch.audit_rings else disagreement_level(state) >= 1.0
    if watch.audit_rings and not rings:
        state = begin_next_run(state)
    return _turn(replace(watch, disagreement=state, audit_rings=rings, audit_stopped_at=None), charts, now)


def stop_audit(watch: DriftWatch, now: float) -> DriftWatch:
    """Return the watch after the dollar budget did not bear an audit."""
    return watch if watch.audit_stopped_at is not None else replace(watch, audit_stopped_at=now)


def show_evidence(watch: DriftWatch, charts: DriftCharts | None) -> dict[str, float]:
    """Return each chart's level as a share of its limit, the audit's once it has its bound."""
    levels = charts.evidence(watch.state) if charts is not None else {}
    evidence = {chart: round(level, 4) for chart, level in levels.items()}
    if watch.disagreement.bound is not None:
        evidence[AUDIT_CHART] = round(disagreement_level(watch.disagreement), 4)
    return evidence


def _turn(watch: DriftWatch, charts: DriftCharts | None, now: float) -> tuple[DriftWatch, Turn | None]:
    ringing = watch.ringing
    if ringing and watch.alarm is None:
        audit = watch.disagreement if watch.audit_rings else None
        alarm = Alarm(now, watch.state.requests, ringing, show_evidence(watch, charts), audit)
        raised = replace(watch, alarm=alarm, voided_by=watch.voided_by or alarm, alarms=watch.alarms + 1)
        return raised, Turn.RAISED
    if not ringing and watch.alarm is not None:
        return replace(watch, alarm=None), Turn.CLEARED
    return watch, None
