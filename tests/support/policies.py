"""A live policy for tests; each test changes what it is about."""

from typing import Any

from hybridroute_api.serving import (
    LivePolicy,
    LlmPolicy,
    RecordsPolicy,
    RetryPolicy,
    RoutingPolicy,
    SlmPolicy,
    TokenPrices,
    Upstream,
    UpstreamTimeouts,
)
from hybridroute_api.vocabulary import Mode, OutOfScopeAction

__all__ = ["a_policy", "a_retry_policy", "an_upstream"]


def a_retry_policy(**changes: Any) -> RetryPolicy:
    values: dict[str, Any] = {
        "ratio": 0.1,
        "floor_tokens_per_second": 1.0,
        "burst_tokens": 100.0,
        "max_attempts": 3,
        "retry_timeouts": False,
        "hedging": False,
    }
    return RetryPolicy(**(values | changes))


def an_upstream(name: str = "primary", base_url: str = "http://127.0.0.1:1/v1", **changes: Any) -> Upstream:
    values: dict[str, Any] = {
        "name": name,
        "base_url": base_url,
        "model": "big",
        "prices": TokenPrices(
            input_nano_usd_per_million=2_500_000_000, output_nano_usd_per_million=10_000_000_000
        ),
        "timeouts": UpstreamTimeouts(connect_seconds=1.0, first_byte_seconds=5.0, total_seconds=10.0),
        "max_output_tokens": 256,
    }
    return Upstream(**(values | changes))


def a_policy(**changes: Any) -> LivePolicy:
    values: dict[str, Any] = {
        "route": "support",
        "mode": Mode.HYBRID,
        "slm": SlmPolicy(
            model_name="smollm2-135m",
            context_tokens=4096,
            tools=False,
            json_schema=True,
            machine_hour_nano_usd=80_000_000,
            first_byte_seconds=5.0,
            total_seconds=10.0,
        ),
        "llm": LlmPolicy(upstreams=(an_upstream(),), retries=a_retry_policy()),
        "routing": RoutingPolicy(
            local_examples=("how do I freeze my card", "what is my balance"),
            remote_examples=("write a sonnet about the sea", "plan a holiday"),
            threshold=0.5,
            scope_threshold=0.3,
            out_of_scope=OutOfScopeAction.ESCALATE,
        ),
        "budget": None,
        "auth": None,
        "records": RecordsPolicy(max_age_seconds=3600.0, max_bytes=1 << 24, prompt_text=False),
        "max_body_bytes": 1 << 20,
    }
    return LivePolicy(**(values | changes))
