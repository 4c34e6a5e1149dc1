"""The contract from control plane to data plane, version 1. It knows nothing of Kubernetes.

Two halves. `LivePolicy` is the versioned document that bites within 10 s: the keeper watches it and hands it
to router and llm-proxy replicas. The `*Args` are what an application is started with; they change only with
code or shape. The other direction, records and heartbeats, is `hybridroute_api.records`.
Money is integer nano-USD (1e-9 USD); prices are nano-USD per million tokens, so that every list price is exact.
"""

import hashlib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hybridroute_api.vocabulary import DriftAction, ExhaustedAction, Mode, OutOfScopeAction, PathName

__all__ = [
    "CONTRACT_VERSION",
    "DATABASE_NAME",
    "LONGEST_REQUEST_SECONDS",
    "ArtifactPolicy",
    "AuthPolicy",
    "BudgetPolicy",
    "CascadePolicy",
    "KeeperArgs",
    "LivePolicy",
    "LlmPolicy",
    "LlmProxyArgs",
    "RecordsPolicy",
    "RetryPolicy",
    "RouterArgs",
    "RoutingPolicy",
    "SlmArgs",
    "SlmPolicy",
    "StandInArgs",
    "TokenPrices",
    "Upstream",
    "UpstreamTimeouts",
]

CONTRACT_VERSION: Literal[1] = 1
DATABASE_NAME = "keeper.sqlite3"
"""The keeper's store in its `state_dir`, which is there when the keeper is not."""
LONGEST_REQUEST_SECONDS = 3600
"""No request may last longer: stopping replicas and ingresses are given so long to finish."""


class _Contract(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenPrices(_Contract):
    """List prices of one upstream, nano-USD per million tokens."""

    input_nano_usd_per_million: int = Field(ge=0)
    output_nano_usd_per_million: int = Field(ge=0)
    cached_input_nano_usd_per_million: int | None = Field(default=None, ge=0)
    """None: cached prompt tokens cost as much as fresh ones."""
    reasoning_nano_usd_per_million: int | None = Field(default=None, ge=0)
    """None: reasoning tokens cost as much as other completion tokens."""


class UpstreamTimeouts(_Contract):
    """Deadlines of one attempt, seconds."""

    connect_seconds: float = Field(gt=0)
    first_byte_seconds: float = Field(gt=0)
    """From the request being sent to the first content, not to a role-only chunk."""
    total_seconds: float = Field(gt=0)


class Upstream(_Contract):
    """One OpenAI-compatible provider of the LLM path."""

    name: str
    base_url: str
    """Without a trailing slash, with the version segment: `https://provider/v1`."""
    model: str
    credential_file: str | None = None
    """File whose stripped content is sent as the bearer token; None sends no Authorization."""
    headers: dict[str, str] = Field(default_factory=dict)
    ca_file: str | None = None
    """PEM bundle that replaces the system's for this upstream."""
    prices: TokenPrices
    timeouts: UpstreamTimeouts
    max_output_tokens: int = Field(gt=0)
    """The cap that is sent when a request has none."""
    stand_in: bool = False
    """True for the labelled local stand-in that serves when no provider is configured."""


class RetryPolicy(_Contract):
    """The route's retry budget: what failures may cost in extra attempts, whatever the number of replicas."""

    ratio: float = Field(ge=0, le=1)
    """Tokens that each attempt which got through brings in."""
    floor_tokens_per_second: float = Field(ge=0)
    """Tokens that come in by time alone, for the whole route."""
    burst_tokens: float = Field(ge=0)
    """Tokens that the whole route holds at most."""
    max_attempts: int = Field(ge=1)
    """Attempts of one request, of every kind and path together."""
    retry_timeouts: bool = False
    """True: a timeout after the request was sent is retried as well, though the upstream may bill both attempts."""
    hedging: bool
    """True: a unary request that is slower than the 95th percentile is sent once more, from the same budget."""


class LlmPolicy(_Contract):
    """The LLM path: upstreams in order of preference. The first is the primary, whose prices say what all-LLM costs."""

    upstreams: tuple[Upstream, ...] = Field(min_length=1)
    retries: RetryPolicy

    @property
    def primary(self) -> Upstream:
        """The upstream that is tried first."""
        return self.upstreams[0]

    @property
    def longest_seconds(self) -> float:
        """How long a request may take with all its attempts: no more than one of them, unless timeouts are retried."""
        longest = max(upstream.timeouts.total_seconds for upstream in self.upstreams)
        if not self.retries.retry_timeouts:
            return longest
        return min(longest * self.retries.max_attempts, LONGEST_REQUEST_SECONDS)


class SlmPolicy(_Contract):
    """What the router must know of the SLM."""

    model_name: str
    adapters: tuple[str, ...] = ()
    """Names of LoRA adapters: a client that asks for one is served by the SLM."""
    context_tokens: int = Field(gt=0)
    tools: bool
    """False: requests with tools are escalated."""
    json_schema: bool
    """False: requests with a JSON schema are escalated."""
    machine_hour_nano_usd: int = Field(ge=0)
    """Price of one replica's hour: GPUs and machine together."""
    first_byte_seconds: float = Field(gt=0)
    total_seconds: float = Field(gt=0)


class ArtifactPolicy(_Contract):
    """A calibrated artifact that decides, and how. Exactly one of `file` and `config_map` is set, and of `max_risk` and
    `threshold`.
    """

    file: str | None = None
    """File that the keeper reads, again when it changes."""
    config_map: str | None = None
    """`<namespace>/<name>/<entry>` of a ConfigMap that the keeper reads through the API."""
    max_risk: float | None = Field(default=None, ge=0, le=1)
    """Joint regret that is promised; the threshold comes from the certified table."""
    delta: float = Field(gt=0, lt=1)
    threshold: float | None = Field(default=None, ge=0, le=1)
    """Threshold by hand; no risk is promised."""
    scope_threshold: float | None = Field(default=None, ge=-1, le=1)
    """None: the artifact's own."""
    drift_action: DriftAction
    tighten_max_risk: float = Field(ge=0, le=1)
    """Joint regret that the threshold of `DriftAction.TIGHTEN` is read off the table with."""
    audit_share: float = Field(default=0.0, ge=0, le=1)
    """Chance with which a kept request is sent to the other path too; 0 audits nothing."""

    @model_validator(mode="after")
    def _check_choices(self) -> Self:
        if (self.file is None) == (self.config_map is None):
            raise ValueError("exactly one of file and config_map says where the artifact is")
        if (self.max_risk is None) == (self.threshold is None):
            raise ValueError("exactly one of max_risk and threshold says what is kept")
        return self


class CascadePolicy(_Contract):
    """How the SLM's own answer is checked before its first byte."""

    threshold: float | None = Field(default=None, ge=0, le=1)
    """An answer whose margin is below this is given up for the LLM's; None: the calibrated policy says."""
    max_share: float = Field(gt=0, le=1)
    """Share of the route's requests that may be escalated so."""
    tokens: int = Field(gt=0)
    """Tokens that the margin is taken of, and that a stream is held for."""


class RoutingPolicy(_Contract):
    """What the gates decide with. Without examples and without an artifact nothing is kept on the SLM."""

    local_examples: tuple[str, ...] = ()
    remote_examples: tuple[str, ...] = ()
    threshold: float = Field(ge=0, le=1)
    """A request is kept on the SLM when its confidence is at least this."""
    scope_threshold: float = Field(ge=-1, le=1)
    """A request whose best similarity to any example is below this is out of scope."""
    out_of_scope: OutOfScopeAction
    artifact: ArtifactPolicy | None = None
    """Decides in the place of examples and of the two thresholds above."""
    cascade: CascadePolicy | None = None
    """None: the SLM's answers are not checked."""


class BudgetPolicy(_Contract):
    """The route's dollar budget."""

    limit_nano_usd: int = Field(ge=0)
    window: str
    """`24h` (rolling), `1d@Europe/Berlin` or `month[@zone]` (calendar)."""
    on_exhausted: ExhaustedAction
    """What happens to a request that the SLM is fit for."""
    on_exhausted_out_of_scope: ExhaustedAction
    """What happens to a request that the SLM is not known to be fit for."""


class AuthPolicy(_Contract):
    """Who may ask. Absent: everybody."""

    keys_file: str
    """YAML list of clients with their keys and limits, see `hybridroute_serve.auth`; read again when it changes."""


class RecordsPolicy(_Contract):
    """Retention of decision and cost records."""

    max_age_seconds: float = Field(gt=0)
    max_bytes: int = Field(gt=0)
    prompt_text: bool
    """True stores the routing text with each record."""


class LivePolicy(_Contract):
    """Everything that can change while replicas run. `version` is a digest of the rest."""

    contract_version: Literal[1] = CONTRACT_VERSION
    route: str
    version: str = ""
    mode: Mode
    shadow_serve: PathName = PathName.LLM
    """Which path serves in mode Shadow; of no meaning in others."""
    slm: SlmPolicy
    llm: LlmPolicy
    routing: RoutingPolicy
    budget: BudgetPolicy | None
    """None: the LLM path is not budgeted."""
    auth: AuthPolicy | None
    records: RecordsPolicy
    max_body_bytes: int = Field(gt=0)

    @model_validator(mode="after")
    def _stamp_version(self) -> Self:
        digest = hashlib.sha256(self.model_dump_json(exclude={"version"}).encode()).hexdigest()[:16]
        if self.version not in ("", digest):
            raise ValueError(f"version {self.version} does not match the document's digest {digest}")
        object.__setattr__(self, "version", digest)
        return self


class _AppArgs(_Contract):
    route: str
    token_file: str
    """File with the internal token that guards the paths."""


class RouterArgs(_AppArgs):
    """Arguments of the router application."""

    keeper_url: str
    slm_url: str
    """Base of the SLM application, without `/v1`."""
    llm_url: str
    slm_backend_metrics_url: str
    """HAProxy's exporter beside the SLM, which counts its ready replicas."""
    slm_backend: str
    """HAProxy's backend name, `http-<application>`."""
    llm_backend_metrics_url: str
    """HAProxy's exporter beside the llm-proxy."""
    llm_backend: str
    router_backend: str
    """The router's own, by the same exporter: its replicas share out what a client may ask per minute."""
    journal_dir: str
    """Directory for the replica's journal and for its copy of the live policy; survives the process."""


class LlmProxyArgs(_AppArgs):
    """Arguments of the llm-proxy application."""

    keeper_url: str
    journal_dir: str


class SlmArgs(_AppArgs):
    """Arguments of the SLM application."""

    keeper_url: str
    journal_dir: str
    engine: Literal["llamacpp", "vllm"]
    model_uri: str
    """`bundled:…`, `hf://…`, or a path where the replica runs."""
    model_name: str
    engine_args: dict[str, str] = Field(default_factory=dict)
    """Further arguments of the engine's command line, by name without dashes."""
    adapters: dict[str, str] = Field(default_factory=dict)
    """LoRA adapters, name to URI."""
    tensor_parallel: int = Field(default=1, gt=0)
    """Accelerators of the replica's node that the model is split over; 1 also where there is none."""
    hub_token_file: str | None = None
    """File with the model hub's access token; None: public models alone."""
    context_tokens: int = Field(gt=0)
    """Context of one sequence; the engine's whole context is this times `parallel_sequences`."""
    parallel_sequences: int = Field(gt=0)
    """Sequences in one batch; further requests wait in the engine's queue."""
    max_ongoing_requests: int = Field(gt=0)
    """Admission limit of one replica; beyond it the answer is 429 and the request overflows to the LLM."""
    first_byte_seconds: float = Field(gt=0)
    total_seconds: float = Field(gt=0)


class KeeperArgs(_AppArgs):
    """Arguments of the keeper application."""

    metrics_token_file: str
    """A second token, good for `/metrics` alone, for a Prometheus server."""
    state_dir: str
    live_file: str
    live_config_map: str | None = None
    """`<namespace>/<name>/<entry>` of the ConfigMap that `live_file` is a copy of; None on one machine."""
    ledger_config_map: str | None = None
    """`<namespace>/<name>` of the ConfigMap that holds the dollar ledger; None keeps it in `state_dir`."""
    service_url: str | None = None
    """The keeper as the route's Service leads to it, in an upgrade perhaps another one; None on one machine."""


class StandInArgs(_Contract):
    """Arguments of the labelled local stand-in for a remote LLM."""

    tokens_per_second: float = Field(gt=0)
