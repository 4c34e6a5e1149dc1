"""What one record or report adds to the totals. Pure.

A total is an integer under a metric's name and label values; a histogram is one total a bucket and one for the
sum. The store adds these up in the transaction that stores the record, so totals equal the records.
"""

from bisect import bisect_left
from collections import Counter

from hybridroute_api.records import AttemptReport, DecisionRecord
from hybridroute_api.vocabulary import Gate, Outcome
from hybridroute_serve.keeper.metric_table import (
    ALL_LLM,
    ATTEMPTS,
    AUDITS,
    CASCADE,
    CASCADE_MARGIN,
    COST,
    FIRST_BYTE_SECONDS,
    GUARANTEE_COVERED,
    NONE,
    REQUEST_SECONDS,
    REQUESTS,
    SERVED_OUTSIDE_PROMISE,
    TOKENS,
    Metric,
)

__all__ = ["INFINITY", "TotalKey", "Totals", "bucket_name", "sum_name", "tally_attempt", "tally_record"]

TotalKey = tuple[str, tuple[str, ...]]
"""A metric's name and its label values, in the table's order."""
Totals = Counter[TotalKey]

INFINITY = "+Inf"


def bucket_name(metric: Metric) -> str:
    """Name of a histogram's bucket totals, whose last label value is the bound; not cumulative."""
    return f"{metric.name}_bucket"


def sum_name(metric: Metric) -> str:
    """Name of a histogram's sum."""
    return f"{metric.name}_sum"


def tally_record(record: DecisionRecord, totals: Totals) -> None:
    """Count one request, or one audit: that costs money, but nobody asked."""
    labels = (record.route, record.path or NONE, record.gate or NONE)
    if record.gate is Gate.AUDIT:
        totals[AUDITS.name, (record.route, record.path or NONE, _audit_result(record))] += 1
        return
    totals[REQUESTS.name, (*labels, record.outcome)] += 1
    _observe(totals, _REQUEST_SECONDS, labels, record.total_seconds)
    if record.first_byte_seconds is not None:
        _observe(totals, _FIRST_BYTE_SECONDS, labels, record.first_byte_seconds)
    if record.guarantee_covered:
        totals[GUARANTEE_COVERED.name, (record.route,)] += 1
    if record.outside_promise is not None:
        totals[SERVED_OUTSIDE_PROMISE.name, (record.route, record.outside_promise)] += 1
    if record.cascade is not None:
        totals[CASCADE.name, (record.route, record.cascade.verdict)] += 1
        if record.cascade.margin is not None:
            _observe(totals, _CASCADE_MARGIN, (record.route,), record.cascade.margin)


def tally_attempt(report: AttemptReport, all_llm_nano_usd: int, totals: Totals) -> None:
    """Count one attempt, priced already."""
    by_model = (report.route, report.path, report.model, report.gate)
    usage = report.usage
    totals[ATTEMPTS.name, (report.route, report.path, report.upstream, report.outcome)] += 1
    for kind, tokens in (
        ("prompt", usage.prompt_tokens),
        ("completion", usage.completion_tokens),
        ("cached", usage.cached_tokens),
        ("reasoning", usage.reasoning_tokens),
    ):
        if tokens:
            totals[TOKENS.name, (*by_model, kind)] += tokens
    totals[COST.name, by_model] += report.cost_nano_usd
    totals[ALL_LLM.name, (report.route,)] += all_llm_nano_usd


def _audit_result(record: DecisionRecord) -> str:
    if record.audit is not None and record.audit.disagreement is not None:
        return "compared"
    return "unaffordable" if record.outcome is Outcome.UNAFFORDABLE else "failed"


class _Histogram:
    """A histogram's names, made once."""

    def __init__(self, metric: Metric) -> None:
        self.bucket = bucket_name(metric)
        self.sum = sum_name(metric)
        self.scale = metric.scale
        self.bounds = metric.bounds
        self.labels = (*(str(bound) for bound in metric.bounds), INFINITY)


_REQUEST_SECONDS = _Histogram(REQUEST_SECONDS)
_FIRST_BYTE_SECONDS = _Histogram(FIRST_BYTE_SECONDS)
_CASCADE_MARGIN = _Histogram(CASCADE_MARGIN)


def _observe(totals: Totals, histogram: _Histogram, labels: tuple[str, ...], value: float) -> None:
    bound = histogram.labels[bisect_left(histogram.bounds, value)]
    totals[histogram.bucket, (*labels, bound)] += 1
    totals[histogram.sum, labels] += round(value * histogram.scale)
