"""The contract from data plane to keeper, version 1: what replicas report.

The router reports one `DecisionRecord` a request: which gate decided, with its numbers, and how it ended. The
path that does the work reports one `AttemptReport` an attempt: tokens, dollars, seconds. The keeper joins
them by `request_id`; the money in a request is the sum over its attempts, so it counts once, whoever dies.
Structs: every request makes four of them on its path, each in a tenth of the time that a frozen dataclass takes, and
what has its default is not written.
Times are Unix seconds; durations are seconds.
"""

import msgspec

from hybridroute_api.vocabulary import (
    Api,
    CascadeVerdict,
    Gate,
    Outcome,
    OutsidePromise,
    PathName,
    UsageSource,
)

__all__ = [
    "AUDIT_SUFFIX",
    "AttemptReport",
    "AuditResult",
    "Batch",
    "CascadeCheck",
    "DecisionRecord",
    "OpenAttempt",
    "OpenRequest",
    "ReplicaHeartbeat",
    "TokenUsage",
]


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens of one attempt, as the serving path counted them. Cached and reasoning are parts of sums."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: UsageSource = UsageSource.NONE


AUDIT_SUFFIX = ".audit"
"""What the id of an audit's record has behind that of the answered request."""


class AuditResult(msgspec.Struct, frozen=True):
    """What makes a record one of an audit: the copy of an answered request, sent to the path that had not served it."""

    of: str
    """Id of the answered request."""
    propensity: float
    """Chance with which it was drawn."""
    disagreement: float | None = None
    """0 where both answers say the same, 1 where they have nothing in common; None when there was no second answer."""


class CascadeCheck(msgspec.Struct, frozen=True):
    """What the cascade made of a request that was to stay on the SLM."""

    verdict: CascadeVerdict
    threshold: float | None
    """The answer stands when its margin is at least this; None where there was none to look with."""
    margin: float | None = None
    """Mean difference of probability between the two most likely tokens, 0 to 1; None where it was not known."""
    tokens: int = 0
    """Tokens that the margin is the mean of."""
    detail: str = ""
    """Why there is no margin, in a few words."""


class OpenRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Journalled by the router before it hands a request on, so that its death leaves a record."""

    request_id: str
    route: str
    api: Api
    stream: bool
    requested_model: str
    path: PathName
    gate: Gate
    reason: str
    received_at: float
    policy_version: str
    confidence: float | None = None
    threshold: float | None = None
    scope_score: float | None = None
    scope_threshold: float | None = None
    nearest: str | None = None
    artifact: str | None = None
    cluster: int | None = None
    topic: int | None = None


class DecisionRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, written when it has ended."""

    request_id: str
    route: str
    replica: str
    api: Api | None
    """None when the request was refused before it could be read."""
    stream: bool
    requested_model: str
    path: PathName | None
    """The path that answered; None when the router itself answered."""
    gate: Gate | None
    reason: str
    """A few words in the gate's own terms, with its numbers where it has any."""
    status: int
    """HTTP status the client got; 499 when it went away before one was sent."""
    outcome: Outcome
    received_at: float
    decision_seconds: float
    total_seconds: float
    first_byte_seconds: float | None = None
    policy_version: str = ""
    confidence: float | None = None
    threshold: float | None = None
    scope_score: float | None = None
    scope_threshold: float | None = None
    nearest: str | None = None
    """The known example nearest to the request."""
    artifact: str | None = None
    """Digest of the calibrated policy in force; None without one. It scored the request where there are scores."""
    cluster: int | None = None
    """For the drift charts: which of the artifact's clusters the request belongs to."""
    topic: int | None = None
    """For the drift charts: what two requests of one session have in common."""
    audit_propensity: float | None = None
    """Chance with which the request was drawn for the audit, drawn or not; None where it could not be."""
    audit: AuditResult | None = None
    """Set on the record of an audit alone, which is no client's request."""
    cascade: CascadeCheck | None = None
    """What the cascade made of it; None where the route has none, or it was not for the cascade."""
    failed_over_from: PathName | None = None
    """The path that was tried first and failed before any content."""
    shadow_gate: Gate | None = None
    """In mode Shadow: the gate that would have decided."""
    shadow_path: PathName | None = None
    """In mode Shadow: the path that it would have chosen; None where it would have refused."""
    client: str | None = None
    """Name of the client whose key the request came with."""
    guarantee_covered: bool = False
    """The SLM served it, kept by the confidence gate under a promise that held."""
    outside_promise: OutsidePromise | None = None
    """Why not, where the SLM served it on a route with a calibrated policy."""
    error_code: str | None = None
    prompt_text: str | None = None
    conversation_key: str | None = None
    """Set when the request offers tools: where a later tool result of this conversation belongs."""


class OpenAttempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """Journalled by a path before it sends an attempt, so that its death leaves a report."""

    attempt_id: str
    request_id: str
    route: str
    path: PathName
    upstream: str
    model: str
    gate: str
    started_at: float
    estimated_prompt_tokens: int
    streamed: bool
    reserved_nano_usd: int | None = None
    """Upper bound that is reserved for it; None where nothing is budgeted."""
    lease_ids: tuple[str, ...] = ()
    """Dollar leases that it is reserved from."""


class AttemptReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt on one path, written when it has ended."""

    attempt_id: str
    """Unique: `<request id>/<path>/<n>`."""
    request_id: str
    route: str
    path: PathName
    upstream: str
    """The upstream's name; `slm` on the SLM path."""
    model: str
    gate: str
    started_at: float
    total_seconds: float
    outcome: Outcome
    usage: TokenUsage
    streamed: bool
    status: int | None = None
    first_byte_seconds: float | None = None
    busy_seconds: float = 0.0
    """SLM: this request's share of the replica's busy time; shares add up to it."""
    cost_nano_usd: int = 0
    """LLM: priced by the llm-proxy. SLM: 0 here, priced from busy_seconds by the keeper."""
    settled_nano_usd: int | None = None
    """What counts against the budgets: the bill, or the whole reservation when no usage was seen."""
    lease_ids: tuple[str, ...] = ()
    """Dollar leases that this is settled in."""
    on_trial: bool = False
    """SLM: a cascade looked at the answer, and the request's record says whether it served."""


class ReplicaHeartbeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """Sent every few seconds by each replica, and once at its end."""

    replica: str
    app: str
    started_at: float
    at: float
    busy_seconds: float = 0.0
    ongoing: int = 0
    policy_version: str = ""
    facts: dict[str, str] = msgspec.field(default_factory=dict)
    """What the app knows of its surroundings, for status: `slm_ready=1`, `upstream.primary=up`."""
    ended: bool = False
    """True on the last one: the replica stopped, or a live one found that it had died at `at`."""


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one replica sends the keeper at once. Idempotent: the keeper knows ids it has seen."""

    records: list[DecisionRecord] = msgspec.field(default_factory=list)
    attempts: list[AttemptReport] = msgspec.field(default_factory=list)
    heartbeats: list[ReplicaHeartbeat] = msgspec.field(default_factory=list)
    replica: str = ""
    """Whose journal the records and attempts were read from; a dead replica's name when they were adopted."""
