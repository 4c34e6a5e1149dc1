"""What tokens and busy time cost, in integer nano-USD. Pure.

Prices are nano-USD per million tokens and nano-USD per replica-hour, see `hybridroute_api.serving`. Money never
passes through a float; only seconds do, which are measured and not counted.
"""

from msgspec.structs import replace

from hybridroute_api.records import AttemptReport, DecisionRecord, TokenUsage
from hybridroute_api.serving import LivePolicy, TokenPrices
from hybridroute_api.vocabulary import CascadeVerdict, Gate, Outcome, PathName

__all__ = [
    "format_usd",
    "is_served_on_trial",
    "price_all_llm",
    "price_busy_seconds",
    "price_report",
    "price_usage",
]

_TOKENS_PER_PRICE = 1_000_000
_SECONDS_PER_HOUR = 3600
_NANO_PER_USD = 1_000_000_000

_SERVED = frozenset({Outcome.OK, Outcome.CUT, Outcome.CANCELLED})
"""Outcomes of the attempt that a request was served by; what came before it is a cost of failure."""


def price_usage(usage: TokenUsage, prices: TokenPrices) -> int:
    """Price one attempt's tokens: exact, then rounded up to a nano-USD once for the attempt.

    Cached tokens are part of the prompt, reasoning tokens part of the completion; each cost their own price where the
    upstream has one, and otherwise as much as the rest of it.
    """
    cached_tokens = min(usage.cached_tokens, usage.prompt_tokens)
    cached_price = prices.cached_input_nano_usd_per_million
    if cached_price is None:
        cached_price = prices.input_nano_usd_per_million
    reasoning_tokens = min(usage.reasoning_tokens, usage.completion_tokens)
    reasoning_price = prices.reasoning_nano_usd_per_million
    if reasoning_price is None:
        reasoning_price = prices.output_nano_usd_per_million
    total = (
        (usage.prompt_tokens - cached_tokens) * prices.input_nano_usd_per_million
        + cached_tokens * cached_price
        + (usage.completion_tokens - reasoning_tokens) * prices.output_nano_usd_per_million
        + reasoning_tokens * reasoning_price
    )
    return -(-total // _TOKENS_PER_PRICE)


def price_busy_seconds(busy_seconds: float, machine_hour_nano_usd: int) -> int:
    """Price a share of a replica's time, to the nearest nano-USD: shares are many, and must not drift up."""
    numerator, denominator = busy_seconds.as_integer_ratio()
    denominator *= _SECONDS_PER_HOUR
    return (2 * numerator * machine_hour_nano_usd + denominator) // (2 * denominator)


def price_all_llm(report: AttemptReport, primary: TokenPrices) -> int:
    """What the LLM alone would have cost: the tokens that served a request, at the primary's list price.

    Attempts that failed count nothing, and neither do those of audits, whose answers nobody got. What an SLM found in
    its own prefix cache says nothing about a provider's, so its prompt counts in full; what a provider discounted is
    discounted here too.
    """
    if report.outcome not in _SERVED or report.gate == Gate.AUDIT:
        return 0
    usage = report.usage
    if usage.cached_tokens and report.path is not PathName.LLM:
        usage = replace(usage, cached_tokens=0)
    return price_usage(usage, primary)


def is_served_on_trial(record: DecisionRecord) -> bool:
    """Tell whether the SLM's answer that a cascade looked at is what the client got.

    A whole answer that was escalated is still at hand when the LLM fails; a stream was given up and asked for again.
    """
    if record.cascade is None or record.path is not PathName.SLM:
        return False
    return record.cascade.verdict is not CascadeVerdict.ESCALATED or not record.stream


def price_report(report: AttemptReport, policy: LivePolicy) -> AttemptReport:
    """Put the price on a report that came without one.

    An SLM attempt costs its busy share. The llm-proxy prices its own; only what it could not finish is priced
    here, by the prompt that was estimated before it was sent.
    """
    if report.path is PathName.SLM:
        return replace(
            report, cost_nano_usd=price_busy_seconds(report.busy_seconds, policy.slm.machine_hour_nano_usd)
        )
    if report.outcome is Outcome.LOST and report.cost_nano_usd == 0:
        for upstream in policy.llm.upstreams:
            if upstream.name == report.upstream:
                return replace(report, cost_nano_usd=price_usage(report.usage, upstream.prices))
    return report


def format_usd(nano_usd: int) -> str:
    """Dollars as a decimal string with nine places, exact."""
    whole, fraction = divmod(abs(nano_usd), _NANO_PER_USD)
    return f"{'-' if nano_usd < 0 else ''}{whole}.{fraction:09d}"
