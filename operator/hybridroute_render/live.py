"""The live policy of a route: the document that bites within 10 s. Pure and deterministic.

What a spec only points at (keys in variables or files, a provider that is replaced by the local stand-in)
arrives resolved, because finding it is I/O and differs between one machine and a cluster.
"""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from hybridroute_api.model_uris import model_name
from hybridroute_api.serving import (
    ArtifactPolicy,
    AuthPolicy,
    BudgetPolicy,
    CascadePolicy,
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
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.auth import Auth
from hybridroute_api.v1alpha1.budget import Budget
from hybridroute_api.v1alpha1.llm import Llm, UpstreamSpec
from hybridroute_api.v1alpha1.routing import (
    DEFAULT_DELTA,
    DEFAULT_MAX_RISK,
    DEFAULT_SCOPE_THRESHOLD,
    DEFAULT_THRESHOLD,
    DEFAULT_TIGHTENING,
    Cascade,
    Drift,
    Policy,
    Routing,
)
from hybridroute_api.v1alpha1.slm import Slm
from hybridroute_api.v1alpha1.spec import Records
from hybridroute_api.vocabulary import PathName, ShadowServe

__all__ = ["STAND_IN_MODEL", "ResolvedUpstream", "ResolvedUpstreams", "render_live_policy"]

_BYTES_PER_MIB = 1024 * 1024

STAND_IN_MODEL = "local-stand-in"
"""The model's name wherever the stand-in serves: records, metrics and answers never show the provider's."""


@dataclass(frozen=True, slots=True)
class ResolvedUpstream:
    """Where one upstream of the spec really is, as the replicas see it."""

    name: str
    """Name of the upstream in the spec."""
    base_url: str
    """The spec's address, or the one that replaces it."""
    credential_file: str | None = None
    """File with the key; None sends no Authorization."""
    ca_file: str | None = None
    """PEM file that replaces the system's authorities; None trusts the system's."""
    stand_in: bool = False
    """True when the labelled local stand-in takes the provider's place; prices stay the spec's."""


ResolvedUpstreams = tuple[ResolvedUpstream, ...]
"""One for each upstream of the spec, in any order."""


def render_live_policy(
    route: HybridRoute,
    resolved: ResolvedUpstreams,
    *,
    keys_file: str | None = None,
    policy_config_map: str | None = None,
) -> LivePolicy:
    """Return the route's live policy.

    `keys_file` is where the replicas read the clients file that `spec.auth` asks for. `policy_config_map`:
    `<namespace>/<name>/<entry>` of the artifact that `spec.routing.policy` asks for, in a cluster.
    Raises ValueError when `resolved` does not match the spec's upstreams one to one.
    """
    spec = route.spec
    by_name = {upstream.name: upstream for upstream in resolved}
    wanted = [upstream.name for upstream in spec.llm.upstreams]
    if len(by_name) != len(resolved) or set(by_name) != set(wanted):
        raise ValueError(f"resolved upstreams {[u.name for u in resolved]} do not match the spec's {wanted}")
    return LivePolicy(
        route=route.metadata.name,
        mode=spec.mode,
        shadow_serve=PathName.SLM if spec.shadow_serve is ShadowServe.SLM else PathName.LLM,
        slm=_slm_policy(spec.slm),
        llm=LlmPolicy(
            upstreams=tuple(_upstream(item, by_name[item.name]) for item in spec.llm.upstreams),
            retries=_retry_policy(spec.llm),
        ),
        routing=_routing_policy(spec.routing, policy_config_map),
        budget=None if spec.budget is None else _budget_policy(spec.budget),
        auth=None if spec.auth is None else AuthPolicy(keys_file=_keys_file(spec.auth, keys_file)),
        records=_records_policy(spec.records),
        max_body_bytes=spec.limits.max_body_mib * _BYTES_PER_MIB,
    )


def _slm_policy(slm: Slm) -> SlmPolicy:
    return SlmPolicy(
        model_name=model_name(slm.model.uri),
        adapters=tuple(sorted(slm.adapters)),
        context_tokens=slm.context_tokens,
        tools=slm.capabilities.tools,
        json_schema=slm.capabilities.json_schema,
        machine_hour_nano_usd=(
            slm.pricing.machine_hour_nano_usd + slm.resources.gpus * slm.pricing.gpu_hour_nano_usd
        ),
        first_byte_seconds=_seconds(slm.timeouts.first_byte),
        total_seconds=_seconds(slm.timeouts.total),
    )


def _upstream(spec: UpstreamSpec, resolved: ResolvedUpstream) -> Upstream:
    return Upstream(
        name=f"{spec.name}-stand-in" if resolved.stand_in else spec.name,
        base_url=resolved.base_url.rstrip("/"),
        model=STAND_IN_MODEL if resolved.stand_in else spec.model,
        credential_file=resolved.credential_file,
        headers=dict(sorted(spec.headers.items())),
        ca_file=resolved.ca_file,
        prices=TokenPrices(
            input_nano_usd_per_million=spec.pricing.input_per_million_tokens_nano_usd,
            output_nano_usd_per_million=spec.pricing.output_per_million_tokens_nano_usd,
            cached_input_nano_usd_per_million=spec.pricing.cached_input_per_million_tokens_nano_usd,
            reasoning_nano_usd_per_million=spec.pricing.reasoning_per_million_tokens_nano_usd,
        ),
        timeouts=UpstreamTimeouts(
            connect_seconds=_seconds(spec.timeouts.connect),
            first_byte_seconds=_seconds(spec.timeouts.first_byte),
            total_seconds=_seconds(spec.timeouts.total),
        ),
        max_output_tokens=spec.max_output_tokens,
        stand_in=resolved.stand_in,
    )


def _routing_policy(routing: Routing, policy_config_map: str | None) -> RoutingPolicy:
    confidence, scope = routing.confidence.threshold, routing.scope.threshold
    return RoutingPolicy(
        local_examples=routing.examples.local,
        remote_examples=routing.examples.remote,
        threshold=float(DEFAULT_THRESHOLD if confidence is None else confidence),
        scope_threshold=float(DEFAULT_SCOPE_THRESHOLD if scope is None else scope),
        out_of_scope=routing.out_of_scope,
        artifact=None
        if routing.policy is None
        else _artifact_policy(routing, routing.policy, policy_config_map),
        cascade=None if routing.cascade is None else _cascade_policy(routing.cascade),
    )


def _cascade_policy(cascade: Cascade) -> CascadePolicy:
    return CascadePolicy(
        threshold=_float(cascade.threshold), max_share=float(cascade.max_share), tokens=cascade.tokens
    )


def _artifact_policy(routing: Routing, policy: Policy, config_map: str | None) -> ArtifactPolicy:
    confidence, scope = routing.confidence, routing.scope.threshold
    by_hand = confidence.threshold
    max_risk = DEFAULT_MAX_RISK if confidence.max_risk is None else confidence.max_risk
    drift = routing.drift or Drift()
    tighter = drift.tighten_max_risk
    return ArtifactPolicy(
        file=policy.file if config_map is None else None,
        config_map=config_map,
        max_risk=float(max_risk) if by_hand is None else None,
        delta=float(DEFAULT_DELTA if confidence.delta is None else confidence.delta),
        threshold=_float(by_hand),
        scope_threshold=_float(scope),
        drift_action=drift.action,
        tighten_max_risk=float(DEFAULT_TIGHTENING * max_risk if tighter is None else tighter),
        audit_share=float(routing.audit.share) if routing.audit is not None else 0.0,
    )


def _retry_policy(llm: Llm) -> RetryPolicy:
    return RetryPolicy(
        ratio=float(llm.retry_budget.ratio),
        floor_tokens_per_second=float(llm.retry_budget.min_per_second),
        burst_tokens=float(llm.retry_budget.burst),
        max_attempts=llm.retry_budget.max_attempts,
        retry_timeouts=llm.retry_budget.retry_timeouts,
        hedging=llm.hedging.enabled,
    )


def _budget_policy(budget: Budget) -> BudgetPolicy:
    return BudgetPolicy(
        limit_nano_usd=budget.limit_nano_usd,
        window=budget.window,
        on_exhausted=budget.on_exhausted,
        on_exhausted_out_of_scope=budget.on_exhausted_out_of_scope,
    )


def _records_policy(records: Records) -> RecordsPolicy:
    return RecordsPolicy(
        max_age_seconds=_seconds(records.max_age),
        max_bytes=records.max_size_mib * _BYTES_PER_MIB,
        prompt_text=records.prompt_text,
    )


def _keys_file(auth: Auth, resolved: str | None) -> str:
    path = resolved or auth.api_keys_file
    if path is None:
        raise ValueError("spec.auth names no file, and none is given in its place")
    return path


def _float(number: Decimal | None) -> float | None:
    return None if number is None else float(number)


def _seconds(duration: timedelta) -> float:
    return duration.total_seconds()
