"""One request in one line: which gate decided, with its numbers, what it cost and how it ended. Pure."""

from collections.abc import Sequence

from hybridroute_api.records import AttemptReport, DecisionRecord
from hybridroute_api.vocabulary import UsageSource
from hybridroute_serve.costs.pricing import format_usd
from hybridroute_serve.routing.cascade import describe_check

__all__ = ["explain_record"]

_NEAREST_CHARACTERS = 80


def explain_record(
    record: DecisionRecord, attempts: Sequence[AttemptReport], audit: DecisionRecord | None = None
) -> str:
    """Return the line; parts are separated by `; `. `audit`: the record of the request's audit, if there was one."""
    parts = [_decision(record), *_numbers(record)]
    if record.guarantee_covered:
        parts.append("covered by the promise")
    elif record.outside_promise is not None:
        parts.append(f"outside the promise: {record.outside_promise}")
    if record.cascade is not None:
        parts.append(f"cascade {describe_check(record.cascade)}")
    if record.client is not None:
        parts.append(f"client {record.client}")
    if record.failed_over_from is not None:
        parts.append(f"failed over from {record.failed_over_from}")
    if audit is not None:
        parts.append(f"audited by {audit.request_id}: {_comparison(audit)}")
    if record.audit is not None:
        parts.append(f"drawn with chance {record.audit.propensity:g}, {_comparison(record)}")
    parts.extend(_attempt(attempt) for attempt in sorted(attempts, key=lambda attempt: attempt.started_at))
    parts.append(f"cost ${format_usd(sum(attempt.cost_nano_usd for attempt in attempts))}")
    parts.append(_latency(record))
    ending = f"{record.outcome} ({record.status})"
    parts.append(f"{ending}, {record.error_code}" if record.error_code else ending)
    return "; ".join(parts)


def _decision(record: DecisionRecord) -> str:
    if record.gate is None:
        return f"answered by the router: {record.reason or 'refused before a decision'}"
    where = f"path {record.path}" if record.path is not None else "no path"
    return f"{where}, gate {record.gate}: {record.reason}"


def _numbers(record: DecisionRecord) -> list[str]:
    """The scores that the gate's own words do not have."""
    parts = []
    if record.confidence is not None and record.threshold is not None and "confidence " not in record.reason:
        parts.append(f"confidence {record.confidence:.3f}, threshold {record.threshold:.3f}")
    if (
        record.scope_score is not None
        and record.scope_threshold is not None
        and "scope " not in record.reason
    ):
        parts.append(f"scope {record.scope_score:.3f}, threshold {record.scope_threshold:.3f}")
    if record.nearest:
        nearest = " ".join(record.nearest.split())
        if len(nearest) > _NEAREST_CHARACTERS:
            nearest = nearest[: _NEAREST_CHARACTERS - 1] + "…"
        parts.append(f'nearest example "{nearest}"')
    return parts


def _comparison(audit: DecisionRecord) -> str:
    result = audit.audit
    if result is None or result.disagreement is None:
        return f"nothing to compare, {audit.path} {audit.outcome}"
    if result.disagreement == 0.0:
        return "both paths say the same"
    return f"the answers are {result.disagreement:.2f} of 1 apart"


def _attempt(attempt: AttemptReport) -> str:
    usage = attempt.usage
    tokens = f"{usage.prompt_tokens}+{usage.completion_tokens} tokens"
    if usage.source is UsageSource.ESTIMATED:
        tokens += " estimated"
    elif usage.source is UsageSource.NONE:
        tokens = "no tokens"
    # On the SLM path the upstream's name is the path's.
    name = attempt.path if attempt.upstream == attempt.path else f"{attempt.path}/{attempt.upstream}"
    return f"{name} {attempt.model} {attempt.outcome}: {tokens}"


def _latency(record: DecisionRecord) -> str:
    total = f"{record.total_seconds:.3f} s"
    if record.first_byte_seconds is None:
        return total
    return f"{total}, first byte {record.first_byte_seconds:.3f} s"
