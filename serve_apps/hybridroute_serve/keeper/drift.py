"""The fleet's drift charts at work in the keeper: records in, one standing out.

Observations are the decision records themselves: the transaction that stores a record for the first time advances the
charts and stores where they stand, so an observation counts once, whoever sends it again and whichever keeper takes
it. Not here: the charts (`hybridroute_serve.routing.drift`), and what routers make of an alarm.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from hybridroute_api.records import DecisionRecord
from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.keeper.metric_table import (
    AUDIT_DIFFERING,
    AUDIT_STOPPED,
    DRIFT_ALARM,
    DRIFT_ALARMS,
    DRIFT_LEVEL,
)
from hybridroute_serve.keeper.metrics import Gauges
from hybridroute_serve.keeper.tally import Totals
from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.drift.charts import DriftCharts
from hybridroute_serve.routing.drift.disagreement import (
    ALARM_E_VALUE,
    BASELINE_COMPARISONS,
    DisagreementState,
    e_value,
)
from hybridroute_serve.routing.drift.watch import (
    AUDIT_CHART,
    Alarm,
    DriftWatch,
    Observation,
    Turn,
    show_evidence,
    stop_audit,
    watch_comparison,
    watch_request,
)

__all__ = ["DriftDesk", "DriftDraft"]

_LOG = logging.getLogger(__name__)

_REMEMBERED = 8
"""Artifacts whose watch is kept: putting an earlier one back in place does not make its alarm unsaid."""

_WATCHES = msgspec.json.Decoder(dict[str, DriftWatch])
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class DriftDraft:
    """What a transaction will have made of the watches, once it is through."""

    watches: dict[str, DriftWatch]
    turns: tuple[tuple[Turn, DriftWatch], ...] = ()

    def encode(self) -> str:
        """Return it as JSON."""
        return _ENCODER.encode(self.watches).decode()


class DriftDesk:
    """Watches the artifact in force. `observe` and `accept` run in the writing thread; the rest only reads."""

    def __init__(self, route: str, stored: str | None) -> None:
        """`stored`: what `DriftDraft.encode` made; None before the first."""
        self._route = route
        self._watches = _WATCHES.decode(stored) if stored is not None else {}
        self._artifact = ""
        self._charts: DriftCharts | None = None

    def follow(self, artifact: str, baseline: DriftBaseline | None) -> None:
        """Watch this artifact from now on; an empty digest watches nothing."""
        if artifact != self._artifact:
            self._artifact = artifact
            self._charts = DriftCharts(baseline) if baseline is not None else None

    @property
    def watch(self) -> DriftWatch:
        """What is known of the artifact in force."""
        return self._watches.get(self._artifact, DriftWatch())

    def observe(self, records: Sequence[DecisionRecord], now: float, totals: Totals) -> DriftDraft | None:
        """Advance the charts by new records; None when none of them says anything of the artifact in force."""
        if not self._artifact:
            return None
        before = watch = self.watch
        turns: list[tuple[Turn, DriftWatch]] = []
        for record in records:
            if record.artifact != self._artifact:
                continue
            watch, turn = self._watch(watch, record, now)
            if turn is not None:
                turns.append((turn, watch))
        if watch is before:
            return None
        for turn, at_turn in turns:
            if turn is Turn.RAISED and at_turn.alarm is not None:
                for chart in at_turn.alarm.charts:
                    totals[DRIFT_ALARMS.name, (self._route, chart)] += 1
        others = [item for item in self._watches.items() if item[0] != self._artifact]
        return DriftDraft(dict([*others, (self._artifact, watch)][-_REMEMBERED:]), tuple(turns))

    def accept(self, draft: DriftDraft) -> None:
        """Take over what is durable now."""
        self._watches = draft.watches
        for turn, watch in draft.turns:
            charts = ",".join(watch.alarm.charts) if watch.alarm is not None else ""
            _LOG.warning(
                "drift alarm was %s route=%s artifact=%s charts=%s requests=%d",
                turn,
                self._route,
                self._artifact[:12],
                charts,
                watch.state.requests,
            )

    def standing(self, *, audited: bool = True) -> DriftStanding:
        """Return what routers decide by. `audited`: the route asks for audits, so an unpaid one is missed."""
        watch = self.watch
        stopped = watch.audit_stopped_at
        return DriftStanding(
            artifact=self._artifact,
            alarm=_describe(watch.alarm) if watch.alarm is not None else None,
            void=f"drift: {_describe(watch.voided_by)}" if watch.voided_by is not None else None,
            void_by_audit=watch.voided_by is not None and AUDIT_CHART in watch.voided_by.charts,
            unknown=None
            if stopped is None or not audited
            else f"the dollar budget has borne no audit since {_moment(stopped)}",
        )

    def show(self) -> dict[str, Any] | None:
        """Return what `/state` says; None while no artifact is in force."""
        if not self._artifact:
            return None
        watch = self.watch
        return {
            "artifact": self._artifact,
            "requests": watch.state.requests,
            "evidence": show_evidence(watch, self._charts),
            "alarm": asdict(watch.alarm) if watch.alarm is not None else None,
            "voided_by": asdict(watch.voided_by) if watch.voided_by is not None else None,
            "alarms": watch.alarms,
            "audit": {
                "compared": watch.disagreement.compared,
                "baseline": BASELINE_COMPARISONS,
                "cut": watch.disagreement.cut,
                "usual_at_most": watch.disagreement.bound,
                "recent": watch.disagreement.recent_share if watch.disagreement.cut is not None else None,
                "differing": watch.disagreement.differing,
                "e_value": e_value(watch.disagreement),
                "alarm_e_value": ALARM_E_VALUE,
                "stopped_at": watch.audit_stopped_at,
            },
        }

    def gauges(self, *, audited: bool = True) -> Gauges:
        """Return what is true now, for `/metrics`. `audited`: see `standing`."""
        if not self._artifact:
            return {}
        watch = self.watch
        return {
            DRIFT_LEVEL: {
                (self._route, chart): level for chart, level in show_evidence(watch, self._charts).items()
            },
            DRIFT_ALARM: {(self._route,): float(watch.alarm is not None)},
            AUDIT_STOPPED: {(self._route,): float(audited and watch.audit_stopped_at is not None)},
            AUDIT_DIFFERING: self._differing(watch.disagreement),
        }

    def _differing(self, state: DisagreementState) -> dict[tuple[str, ...], float]:
        if state.bound is None:
            return {}
        return {
            (self._route, "recent"): state.recent_share,
            (self._route, "usual_at_most"): state.bound,
        }

    def _watch(self, watch: DriftWatch, record: DecisionRecord, now: float) -> tuple[DriftWatch, Turn | None]:
        if record.audit is not None:
            if record.outcome is Outcome.UNAFFORDABLE:
                return stop_audit(watch, now), None
            if record.audit.disagreement is None:
                return watch, None
            return watch_comparison(watch, self._charts, record.audit.disagreement, now)
        observation = _observation(record)
        if observation is None or self._charts is None:
            return watch, None
        return watch_request(watch, self._charts, observation, now)


def _observation(record: DecisionRecord) -> Observation | None:
    if record.scope_score is None or record.cluster is None or record.topic is None:
        return None
    return Observation(record.scope_score, record.cluster, record.topic, record.confidence)


def _describe(alarm: Alarm) -> str:
    rang = ", ".join(f"{chart} {alarm.evidence[chart]:.2f}" for chart in alarm.charts)
    said = f"{rang} of the limit at {_moment(alarm.at)}, after {alarm.requests} requests"
    return said if alarm.audit is None else f"{said}; {_describe_audit(alarm.audit)}"


def _describe_audit(state: DisagreementState) -> str:
    return (
        f"of {state.compared} audited pairs {state.differing} differ since the first {BASELINE_COMPARISONS}, lately "
        f"{state.recent_share:.0%} where at most {state.bound or 0.0:.0%} was usual, "
        f"e-value {e_value(state):.0f} >= {ALARM_E_VALUE:.0f}"
    )


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
