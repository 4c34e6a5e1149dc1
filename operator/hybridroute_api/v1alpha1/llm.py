"""`spec.llm`: the path to remote LLMs, its upstreams in order of preference and the proxy's replicas."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from hybridroute_api.quantities import DecimalString, Duration, NanoUsd
from hybridroute_api.v1alpha1.model import (
    CLUSTER_ONLY,
    Count,
    DnsName,
    EnvName,
    Flag,
    ObjectName,
    SecretKey,
    SpecModel,
    Text,
)
from hybridroute_api.v1alpha1.scaling import LlmScaling

HeaderValue = Annotated[str, Field(max_length=4096)]
"""Longer ones are refused by most servers, whose whole header block is limited to 8 or 16 KiB."""

__all__ = [
    "CaBundleRef",
    "Hedging",
    "Llm",
    "RetryBudget",
    "UpstreamCredentials",
    "UpstreamPricing",
    "UpstreamSpec",
    "UpstreamTimeoutsSpec",
]


class UpstreamCredentials(SpecModel):
    """Where the provider's API key is; it is sent as the bearer token. On one machine `env` or `file`, in a cluster
    `secretName`; an object for both has one of each.
    """

    env: EnvName | None = None
    """Environment variable that holds the key, on one machine. A name of 1 to 128 characters; default none, use it or
    `file`.
    """
    file: Text | None = Field(default=None, max_length=1024)
    """File that holds the key and nothing else, on one machine, absolute or relative to the route's file, 1 to 1024
    characters. Default none, use it or `env`.
    """
    secret_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Secret in the route's namespace that holds the key, in a cluster. A name of 1 to 253 characters; a changed key
    reaches the proxy within 120 s without a restart. Default none, which a cluster refuses.
    """
    key: SecretKey = Field(default="apiKey", json_schema_extra=CLUSTER_ONLY)
    """Which of the Secret's entries is the key, 1 to 253 characters. Default apiKey."""


class CaBundleRef(SpecModel):
    """Where a provider's authorities are in a cluster: a ConfigMap or a Secret."""

    config_map_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """ConfigMap in the route's namespace, a name of 1 to 253 characters. Default none, use it or `secretName`."""
    secret_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """Secret in the route's namespace, a name of 1 to 253 characters. Default none, use it or `configMapName`."""
    key: SecretKey = Field(default="ca.crt", json_schema_extra=CLUSTER_ONLY)
    """Which of its entries is the PEM bundle, 1 to 253 characters. Default ca.crt, as cert-manager writes it."""


class UpstreamPricing(SpecModel):
    """List prices, which say what each request cost and what all-LLM would have cost."""

    input_per_million_tokens_nano_usd: NanoUsd = Field(
        alias="inputPerMillionTokensUSD", ge=0, le=10**6 * 10**9
    )
    """Dollars for a million prompt tokens. Range "0" to "1000000"; required, because an unknown price is not
    a price of zero.
    """
    output_per_million_tokens_nano_usd: NanoUsd = Field(
        alias="outputPerMillionTokensUSD", ge=0, le=10**6 * 10**9
    )
    """Dollars for a million completion tokens. Range "0" to "1000000"; required, because an unknown price is
    not a price of zero.
    """
    cached_input_per_million_tokens_nano_usd: NanoUsd | None = Field(
        default=None, alias="cachedInputPerMillionTokensUSD", ge=0, le=10**6 * 10**9
    )
    """Dollars for a million prompt tokens that the provider had cached. Range "0" to "1000000", at most the
    price of fresh ones; default the price of fresh ones, which never understates.
    """
    reasoning_per_million_tokens_nano_usd: NanoUsd | None = Field(
        default=None, alias="reasoningPerMillionTokensUSD", ge=0, le=10**6 * 10**9
    )
    """Dollars for a million completion tokens that were spent on reasoning, where they have a price of their own.
    Range "0" to "1000000"; default the price of completion tokens, as most providers bill them.
    """


class UpstreamTimeoutsSpec(SpecModel):
    """Deadlines of one attempt at an upstream."""

    connect: Duration = Field(
        default=timedelta(seconds=2), ge=timedelta(milliseconds=50), le=timedelta(minutes=1)
    )
    """Until the connection stands, TLS included. Range 50ms to 1m; default 2s, a few round trips around the
    world.
    """
    first_byte: Duration = Field(
        default=timedelta(seconds=20), ge=timedelta(milliseconds=100), le=timedelta(minutes=10)
    )
    """From the request being sent to the first content; unary requests that wait longer speak against the upstream.
    Range 100ms to 10m; default 20s, past what busy providers take for long prompts.
    """
    total: Duration = Field(default=timedelta(minutes=2), ge=timedelta(seconds=1), le=timedelta(hours=1))
    """Until the end of the answer. Range 1s to 1h, at least `firstByte` and `connect`; default 2m, a
    4096-token answer at 35 tokens/s.
    """


class UpstreamSpec(SpecModel):
    """One OpenAI-compatible provider."""

    name: DnsName
    """Name of the upstream in records, metrics and headers: lower-case letters, digits and '-', 1 to 39
    characters, unlike the others', and not slm. Required, because records outlive its position in the list.
    """
    base_url: Text = Field(alias="baseURL", max_length=1024)
    """Address with the version segment, `https://provider/v1`; http or https, without user, query or
    fragment, 1 to 1024 characters. Required.
    """
    model: Text = Field(max_length=256)
    """Model name that is sent to the provider, 1 to 256 characters. Required, because prices belong to a
    model.
    """
    credentials: UpstreamCredentials | None = None
    """Where the API key is. Default none, which sends no Authorization header."""
    headers: dict[str, HeaderValue] = Field(default_factory=dict, max_length=32)
    """Headers added to each request, at most 32 with values of at most 4096 characters, such as an
    organisation's id. Default none. The key belongs in `credentials`.
    """
    ca_bundle: Text | None = Field(default=None, max_length=1024)
    """PEM file, absolute or relative to the route's file, 1 to 1024 characters, that replaces the system's
    authorities for this upstream. Default none, which trusts the system's.
    """
    ca_bundle_ref: CaBundleRef | None = None
    """ConfigMap or Secret with the PEM bundle, in a cluster, where it takes the place of `caBundle`; a change is in
    force within 120 s without a restart. Default none.
    """
    pricing: UpstreamPricing
    """List prices. Required, since costs and savings rest on them."""
    timeouts: UpstreamTimeoutsSpec = UpstreamTimeoutsSpec()
    """Deadlines of one attempt. Default: 2s to connect, 20s to the first content, 2m in all."""
    max_output_tokens: Count = Field(default=2048, ge=1, le=1_000_000)
    """Cap on completion tokens that is sent when a request has none. Range 1 to 1000000; default 2048, longer
    than nearly every answer and a bound on what one costs.
    """


class RetryBudget(SpecModel):
    """One budget for every extra attempt that a failure causes: retries, fallbacks, hedges, failover between paths.
    It is the route's, shared out among replicas, so the fleet's bound does not grow with them.
    """

    ratio: DecimalString = Field(default=Decimal("0.1"), ge=0, le=1)
    """Extra attempts earned by each attempt that got through. Range "0" to "1"; default "0.1", which adds at most a
    tenth to a provider's load.
    """
    min_per_second: DecimalString = Field(default=Decimal(1), ge=0, le=1000)
    """Extra attempts per second that are always allowed, for routes with little traffic. Range "0" to "1000";
    default "1".
    """
    burst: Count = Field(default=100, ge=0, le=100_000)
    """Extra attempts that can be saved up. Range 0 to 100000; default 100, a second of a busy route."""
    max_attempts: Count = Field(default=3, ge=1, le=10)
    """Attempts of one request in all. Range 1 to 10; default 3, past which another attempt seldom helps."""
    retry_timeouts: Flag = False
    """True: a request that was sent and not answered within its upstream's `timeouts` is tried again, which takes two
    extra attempts of this budget; with all of them it may last `maxAttempts` times the longest `timeouts.total`, but
    no more than an hour. Default false, because both may be billed.
    """


class Hedging(SpecModel):
    """A second attempt beside a slow one. Both are billed."""

    enabled: Flag = False
    """True: a unary request that is slower than 95 % of those before it is sent once more, paid from `retryBudget`.
    Default false, because it costs dollars when nothing is wrong.
    """


class Llm(SpecModel):
    """The path to remote LLMs, which serves what the SLM is not trusted with."""

    upstreams: tuple[UpstreamSpec, ...] = Field(min_length=1, max_length=8)
    """Providers in order of preference, 1 to 8; the next is tried when one fails before any content. The
    first is the primary, whose prices say what all-LLM costs. Required.
    """
    retry_budget: RetryBudget = RetryBudget()
    """What failures may cost in extra attempts. Default: a tenth of what got through, 1 a second, 100 at most."""
    hedging: Hedging = Hedging()
    """Whether slow requests are sent twice. Default: not."""
    scaling: LlmScaling = LlmScaling()
    """How many replicas of the proxy. Default: one."""
