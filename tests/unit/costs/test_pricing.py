"""Prices are exact."""

from decimal import ROUND_CEILING, Decimal

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybridroute_api.records import TokenUsage
from hybridroute_api.serving import TokenPrices
from hybridroute_api.vocabulary import Gate, Outcome, PathName
from hybridroute_serve.costs.pricing import format_usd, price_all_llm, price_busy_seconds, price_usage
from support.reports import an_attempt

_LIST = TokenPrices(input_nano_usd_per_million=2_500_000_000, output_nano_usd_per_million=10_000_000_000)
_CACHED = _LIST.model_copy(update={"cached_input_nano_usd_per_million": 250_000_000})
_REASONED = _LIST.model_copy(update={"reasoning_nano_usd_per_million": 3_000_000_000})

_counts = st.integers(min_value=0, max_value=2_000_000)
_prices = st.integers(min_value=0, max_value=10**12)


def test_a_price_list_at_work() -> None:
    usage = TokenUsage(prompt_tokens=1000, completion_tokens=200)
    assert format_usd(price_usage(usage, _LIST)) == "0.004500000"
    assert format_usd(price_usage(replace(usage, cached_tokens=800), _CACHED)) == "0.002700000"
    assert price_usage(replace(usage, cached_tokens=800), _LIST) == price_usage(usage, _LIST)
    assert price_usage(replace(usage, reasoning_tokens=150), _LIST) == price_usage(usage, _LIST)
    assert format_usd(price_usage(replace(usage, reasoning_tokens=150), _REASONED)) == "0.003450000"


def test_a_fraction_of_a_nano_usd_is_rounded_up_once() -> None:
    cheap = TokenPrices(input_nano_usd_per_million=1, output_nano_usd_per_million=1)
    assert price_usage(TokenUsage(prompt_tokens=1, completion_tokens=1), cheap) == 1
    assert price_usage(TokenUsage(), cheap) == 0


@given(
    usage=st.builds(
        TokenUsage,
        prompt_tokens=_counts,
        completion_tokens=_counts,
        cached_tokens=_counts,
        reasoning_tokens=_counts,
    ),
    prices=st.builds(
        TokenPrices,
        input_nano_usd_per_million=_prices,
        output_nano_usd_per_million=_prices,
        cached_input_nano_usd_per_million=_prices,
        reasoning_nano_usd_per_million=_prices,
    ),
)
def test_prices_equal_decimal_arithmetic(usage: TokenUsage, prices: TokenPrices) -> None:
    cached = min(usage.prompt_tokens, usage.cached_tokens)
    exact = Decimal((usage.prompt_tokens - cached) * prices.input_nano_usd_per_million)
    exact += cached * (prices.cached_input_nano_usd_per_million or 0)
    reasoning = min(usage.completion_tokens, usage.reasoning_tokens)
    exact += (usage.completion_tokens - reasoning) * prices.output_nano_usd_per_million
    exact += reasoning * (prices.reasoning_nano_usd_per_million or 0)
    assert price_usage(usage, prices) == (exact / 1_000_000).to_integral_value(ROUND_CEILING)


@given(
    shares=st.lists(st.floats(min_value=0, max_value=600), max_size=50),
    machine_hour_nano_usd=st.integers(min_value=0, max_value=10**11),
)
def test_shares_of_busy_time_add_up_to_the_price_of_the_whole(
    shares: list[float], machine_hour_nano_usd: int
) -> None:
    parts = sum(price_busy_seconds(share, machine_hour_nano_usd) for share in shares)
    whole = sum(map(Decimal, shares), Decimal(0)) * machine_hour_nano_usd / 3600
    assert abs(parts - whole) <= Decimal("0.5") * len(shares) + 1


def test_an_hour_costs_an_hour() -> None:
    assert price_busy_seconds(3600.0, 800_000_000) == 800_000_000


def test_all_llm_counts_what_served_and_nothing_that_failed() -> None:
    usage = TokenUsage(prompt_tokens=1000, completion_tokens=200, cached_tokens=800)
    slm = an_attempt("r", path=PathName.SLM, usage=usage)
    llm = an_attempt("r", path=PathName.LLM, usage=usage)
    assert price_all_llm(slm, _CACHED) == 4_500_000
    assert price_all_llm(llm, _CACHED) == price_usage(usage, _CACHED) == 2_700_000
    for outcome in Outcome:
        served = outcome in {Outcome.OK, Outcome.CUT, Outcome.CANCELLED}
        assert (price_all_llm(replace(llm, outcome=outcome), _CACHED) > 0) is served
    assert price_all_llm(replace(llm, gate=Gate.AUDIT.value), _CACHED) == 0


def test_dollars_are_written_exactly() -> None:
    assert format_usd(0) == "0.000000000"
    assert format_usd(12_345_678_901) == "12.345678901"
    assert format_usd(-1) == "-0.000000001"
