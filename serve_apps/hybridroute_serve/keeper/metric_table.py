"""The one table of metrics that the keeper exports: names, labels, help, stored units. Pure.

`tally` adds to these, `metrics` exports them, `metrics_page` writes docs/metrics.md from them.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "ALL_LLM",
    "ATTEMPTS",
    "AUDITS",
    "AUDIT_DIFFERING",
    "AUDIT_STOPPED",
    "BATCHES",
    "BREAKERS",
    "BREAKER_OPENED",
    "BUDGET_DENIED",
    "BUDGET_LIMIT",
    "BUDGET_PAST_UNKNOWN",
    "BUDGET_RESERVED",
    "BUDGET_SPENT",
    "CASCADE",
    "CASCADE_MARGIN",
    "COST",
    "DRIFT_ALARM",
    "DRIFT_ALARMS",
    "DRIFT_LEVEL",
    "DUPLICATES",
    "ENGINE_CACHE_USE",
    "ENGINE_SEQUENCES",
    "EPOCH",
    "FIRST_BYTE_SECONDS",
    "GUARANTEE",
    "GUARANTEE_COVERED",
    "HEDGES",
    "JOURNAL_ERRORS",
    "LIVE_POLICY",
    "LIVE_POLICY_VALID",
    "METRICS",
    "NONE",
    "POLICY",
    "POLICY_VALID",
    "REPLICAS",
    "REQUESTS",
    "REQUEST_SECONDS",
    "RETRY_EXTRA_ATTEMPTS",
    "RETRY_FLOOR_LENT",
    "RETRY_REFUSED",
    "RETRY_TOKENS_LENT",
    "SERVED_OUTSIDE_PROMISE",
    "SLM_IDLE",
    "TOKENS",
    "Metric",
    "MetricKind",
]

NONE = "none"
"""Label value where a request never had a path or a gate: it was refused before the decision."""

_NANO = 1_000_000_000
_MICRO = 1_000_000


class MetricKind(StrEnum):
    """Prometheus types in use."""

    COUNTER = "counter"
    HISTOGRAM = "histogram"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Counters and histograms are kept in the store as integers of `1 / scale` units."""

    name: str
    kind: MetricKind
    labels: tuple[str, ...]
    help: str
    scale: int = 1
    bounds: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets, without +Inf."""


_SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)

REQUESTS = Metric(
    "hybridroute_requests_total",
    MetricKind.COUNTER,
    ("route", "path", "gate", "outcome"),
    "Requests that ended, by the path that answered, the gate that decided and how they ended.",
)
ATTEMPTS = Metric(
    "hybridroute_attempts_total",
    MetricKind.COUNTER,
    ("route", "path", "upstream", "outcome"),
    "Attempts on a path that ended; a request has more than one after a failure before any content.",
)
TOKENS = Metric(
    "hybridroute_tokens_total",
    MetricKind.COUNTER,
    ("route", "path", "model", "gate", "kind"),
    "Tokens as counted by the serving path. Of kind prompt and completion; cached is a part of prompt, "
    "reasoning a part of completion.",
)
COST = Metric(
    "hybridroute_cost_usd_total",
    MetricKind.COUNTER,
    ("route", "path", "model", "gate"),
    "US dollars by path: on llm tokens at list price, on slm the busy share of replica time.",
    scale=_NANO,
)
SLM_IDLE = Metric(
    "hybridroute_slm_idle_usd_total",
    MetricKind.COUNTER,
    ("route",),
    "US dollars of SLM replica time that no request is charged with.",
    scale=_NANO,
)
ALL_LLM = Metric(
    "hybridroute_all_llm_usd_total",
    MetricKind.COUNTER,
    ("route",),
    "US dollars that the same tokens would have cost at the primary upstream's list price.",
    scale=_NANO,
)
REQUEST_SECONDS = Metric(
    "hybridroute_request_seconds",
    MetricKind.HISTOGRAM,
    ("route", "path", "gate"),
    "Seconds from a request's arrival to its end; a lost one counts to its process's last sign of life.",
    scale=_MICRO,
    bounds=_SECONDS_BOUNDS,
)
FIRST_BYTE_SECONDS = Metric(
    "hybridroute_first_byte_seconds",
    MetricKind.HISTOGRAM,
    ("route", "path", "gate"),
    "Seconds from a request's arrival to the first byte of its answer, of requests that got one.",
    scale=_MICRO,
    bounds=_SECONDS_BOUNDS,
)
BATCHES = Metric(
    "hybridroute_keeper_batches_total", MetricKind.COUNTER, ("route",), "Batches that the keeper committed."
)
DUPLICATES = Metric(
    "hybridroute_keeper_duplicates_total",
    MetricKind.COUNTER,
    ("route", "kind"),
    "Reports that were sent again and counted once, of kind request or attempt.",
)
JOURNAL_ERRORS = Metric(
    "hybridroute_keeper_journal_errors_total",
    MetricKind.COUNTER,
    ("route", "app"),
    "Failed journal writes and refused journal lines, as replicas say.",
)
EPOCH = Metric(
    "hybridroute_keeper_epoch",
    MetricKind.GAUGE,
    ("route",),
    "Epoch of this keeper; a newer one fences older ones off.",
)
REPLICAS = Metric(
    "hybridroute_replicas",
    MetricKind.GAUGE,
    ("route", "app"),
    "Replicas that the keeper has heard from lately.",
)
ENGINE_SEQUENCES = Metric(
    "hybridroute_engine_sequences",
    MetricKind.GAUGE,
    ("route", "state"),
    "Sequences in the SLM replicas' engines: running in a batch, or waiting for a place.",
)
ENGINE_CACHE_USE = Metric(
    "hybridroute_engine_cache_use_ratio",
    MetricKind.GAUGE,
    ("route",),
    "Share of the key-value cache that is taken, in the fullest of the SLM replicas' engines.",
)
LIVE_POLICY = Metric(
    "hybridroute_live_policy_info",
    MetricKind.GAUGE,
    ("route", "version", "mode"),
    "1 for the live policy in force.",
)
LIVE_POLICY_VALID = Metric(
    "hybridroute_live_policy_valid",
    MetricKind.GAUGE,
    ("route",),
    "1 when the live policy's file is in force, 0 when it is bad and the last good one is.",
)
BUDGET_LIMIT = Metric(
    "hybridroute_budget_limit_usd",
    MetricKind.GAUGE,
    ("route", "account"),
    "US dollars that an account may spend in its window: account is route, or client:NAME.",
)
BUDGET_SPENT = Metric(
    "hybridroute_budget_spent_usd",
    MetricKind.GAUGE,
    ("route", "account"),
    "US dollars settled in the account's window. An attempt whose usage was not seen counts in full.",
)
BUDGET_RESERVED = Metric(
    "hybridroute_budget_reserved_usd",
    MetricKind.GAUGE,
    ("route", "account"),
    "US dollars that attempts under way, and replicas' leases, may still spend.",
)
BUDGET_PAST_UNKNOWN = Metric(
    "hybridroute_budget_past_unknown",
    MetricKind.GAUGE,
    ("route", "account"),
    "1 while nothing may be spent because the ledger was lost.",
)
BUDGET_DENIED = Metric(
    "hybridroute_budget_denied_total",
    MetricKind.COUNTER,
    ("route", "account"),
    "Attempts that an account could not bear, and that were not sent.",
)
BREAKERS = Metric(
    "hybridroute_breakers",
    MetricKind.GAUGE,
    ("route", "upstream", "state"),
    "llm-proxy replicas that have an upstream's breaker closed, open or half_open.",
)
BREAKER_OPENED = Metric(
    "hybridroute_breaker_opened_total",
    MetricKind.COUNTER,
    ("route", "upstream"),
    "How often replicas' breakers of an upstream opened, as replicas say.",
)
RETRY_EXTRA_ATTEMPTS = Metric(
    "hybridroute_retry_extra_attempts_total",
    MetricKind.COUNTER,
    ("route",),
    "Attempts that were paid from the retry budget, as replicas say.",
)
RETRY_REFUSED = Metric(
    "hybridroute_retry_refused_total",
    MetricKind.COUNTER,
    ("route",),
    "Requests that were not tried again because the retry budget was exhausted, as replicas say.",
)
HEDGES = Metric(
    "hybridroute_hedges_total",
    MetricKind.COUNTER,
    ("route",),
    "Attempts that were sent beside a slow one, as replicas say.",
)
RETRY_TOKENS_LENT = Metric(
    "hybridroute_retry_tokens_lent",
    MetricKind.GAUGE,
    ("route",),
    "Retry tokens that replicas may hold together; never above the route's burst.",
)
RETRY_FLOOR_LENT = Metric(
    "hybridroute_retry_floor_lent_per_second",
    MetricKind.GAUGE,
    ("route",),
    "Retry tokens a second that replicas are given by time alone; never above the route's minimum.",
)
GUARANTEE = Metric(
    "hybridroute_guarantee_info",
    MetricKind.GAUGE,
    ("route", "status", "reason"),
    "1 for the verdict on the promise in force: the condition GuaranteeValid.",
)
GUARANTEE_COVERED = Metric(
    "hybridroute_guarantee_covered_total",
    MetricKind.COUNTER,
    ("route",),
    "Requests that the SLM served, kept by the confidence gate under a promise that held.",
)
SERVED_OUTSIDE_PROMISE = Metric(
    "hybridroute_served_outside_promise_total",
    MetricKind.COUNTER,
    ("route", "cause"),
    "Requests that the SLM of a route with a calibrated policy served without its promise: forced, kept_local, "
    "failure, budget, not_promised, system_prompt, multi_turn, tools, shape.",
)
CASCADE = Metric(
    "hybridroute_cascade_total",
    MetricKind.COUNTER,
    ("route", "verdict"),
    "Requests whose SLM answer was for the cascade: passed, escalated, capped by `maxShare`, unscored for want of "
    "logprobs, or not looked at because the LLM was unaffordable or unavailable or no threshold is set (unset).",
)
CASCADE_MARGIN = Metric(
    "hybridroute_cascade_margin",
    MetricKind.HISTOGRAM,
    ("route",),
    "Margin of the SLM's answers that the cascade looked at: what another threshold would escalate is read off it.",
    scale=_MICRO,
    bounds=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
POLICY = Metric(
    "hybridroute_policy_info",
    MetricKind.GAUGE,
    ("route", "digest"),
    "1 for the calibrated policy in force.",
)
POLICY_VALID = Metric(
    "hybridroute_policy_valid",
    MetricKind.GAUGE,
    ("route",),
    "1 when the calibrated policy that the route names is in force, 0 when it is bad and the last good one is.",
)
DRIFT_LEVEL = Metric(
    "hybridroute_drift_level",
    MetricKind.GAUGE,
    ("route", "chart"),
    "Level of a drift chart as a share of its limit: 1 rings. Of the artifact in force.",
)
DRIFT_ALARM = Metric(
    "hybridroute_drift_alarm",
    MetricKind.GAUGE,
    ("route",),
    "1 while a drift alarm is in force, and with it `routing.drift.action`.",
)
DRIFT_ALARMS = Metric(
    "hybridroute_drift_alarms_total",
    MetricKind.COUNTER,
    ("route", "chart"),
    "Drift alarms that were raised, by the charts that rang.",
)
AUDITS = Metric(
    "hybridroute_audits_total",
    MetricKind.COUNTER,
    ("route", "path", "result"),
    "Copies of answered requests that were sent to the other path to compare both answers, by the path they went to. "
    "Result compared, unaffordable, or failed. They are no requests; their attempts count as gate audit.",
)
AUDIT_DIFFERING = Metric(
    "hybridroute_audit_differing_ratio",
    MetricKind.GAUGE,
    ("route", "share"),
    "Share of audited pairs whose answers differ: recent, and usual_at_most by the first pairs of the artifact in "
    "force. None before these are complete.",
)
AUDIT_STOPPED = Metric(
    "hybridroute_audit_stopped",
    MetricKind.GAUGE,
    ("route",),
    "1 since the dollar budget did not bear an audit, until one is compared again.",
)

METRICS = (
    REQUESTS,
    ATTEMPTS,
    TOKENS,
    COST,
    SLM_IDLE,
    ALL_LLM,
    REQUEST_SECONDS,
    FIRST_BYTE_SECONDS,
    BATCHES,
    DUPLICATES,
    JOURNAL_ERRORS,
    EPOCH,
    REPLICAS,
    ENGINE_SEQUENCES,
    ENGINE_CACHE_USE,
    LIVE_POLICY,
    LIVE_POLICY_VALID,
    BUDGET_LIMIT,
    BUDGET_SPENT,
    BUDGET_RESERVED,
    BUDGET_PAST_UNKNOWN,
    BUDGET_DENIED,
    BREAKERS,
    BREAKER_OPENED,
    RETRY_EXTRA_ATTEMPTS,
    RETRY_REFUSED,
    HEDGES,
    RETRY_TOKENS_LENT,
    RETRY_FLOOR_LENT,
    GUARANTEE,
    GUARANTEE_COVERED,
    SERVED_OUTSIDE_PROMISE,
    CASCADE,
    CASCADE_MARGIN,
    POLICY,
    POLICY_VALID,
    DRIFT_LEVEL,
    DRIFT_ALARM,
    DRIFT_ALARMS,
    AUDITS,
    AUDIT_DIFFERING,
    AUDIT_STOPPED,
)
