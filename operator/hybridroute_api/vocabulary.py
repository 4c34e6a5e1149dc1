"""The words that code, headers, records, metrics and docs share.

One vocabulary: a gate or an outcome has the same spelling wherever it shows. This module holds names and
no behaviour; everything above the wire imports from here.
"""

from enum import StrEnum

__all__ = [
    "Api",
    "CascadeVerdict",
    "DriftAction",
    "EmbeddingName",
    "ErrorCode",
    "ExhaustedAction",
    "Gate",
    "Header",
    "InternalHeader",
    "Mode",
    "OutOfScopeAction",
    "Outcome",
    "OutsidePromise",
    "PathName",
    "ShadowServe",
    "UsageSource",
]


class PathName(StrEnum):
    """Where a request can be served."""

    SLM = "slm"
    LLM = "llm"


class Gate(StrEnum):
    """Which gate decided the path, in the order in which gates are asked."""

    FORCED = "forced"
    """Mode, a model name that forces a path, or a tool result that stays with its conversation."""
    CAPABILITY = "capability"
    """The SLM's engine cannot serve the request: context length, images, tools, schema."""
    SCOPE = "scope"
    """The request resembles nothing that the route knows."""
    CONFIDENCE = "confidence"
    """The score against its threshold, or no policy to score with."""
    DRIFT = "drift"
    """Inputs have drifted from what the policy was made on."""
    HEALTH = "health"
    """The chosen path is down; the other serves."""
    OVERFLOW = "overflow"
    """The SLM is full; the LLM serves."""
    BUDGET = "budget"
    """The dollar budget does not allow the LLM."""
    CASCADE = "cascade"
    """The SLM's own answer was not sure enough; the LLM serves."""
    AUDIT = "audit"
    """No client's request: the copy of an answered one, drawn to compare both paths' answers."""


class DriftAction(StrEnum):
    """What an alarm of the drift charts does to requests that would be kept on the SLM."""

    TIGHTEN = "Tighten"
    """Only those stay that a smaller risk would keep."""
    ESCALATE_ALL = "EscalateAll"
    """None stays."""
    ALERT_ONLY = "AlertOnly"
    """All stay; the promise is void, and that is said."""


class EmbeddingName(StrEnum):
    """What turns a text into the numbers that a calibrated policy scores."""

    STATIC = "static"
    """A sum of token vectors: well under a millisecond. Also what examples and audits use."""
    MINILM = "minilm"
    """A transformer that reads words in their context, an extra: milliseconds a text."""


class CascadeVerdict(StrEnum):
    """What the cascade made of a request that was to stay on the SLM."""

    PASSED = "passed"
    """The SLM's answer was sure enough."""
    ESCALATED = "escalated"
    """It was not, and the LLM was asked."""
    CAPPED = "capped"
    """It was not, but `maxShare` of the traffic had been escalated already: the SLM's answer stood."""
    UNSCORED = "unscored"
    """The engine told too little of the answer's tokens to judge it, and it stood."""
    UNAFFORDABLE = "unaffordable"
    """It was not looked at: the dollar budget had just been found spent."""
    UNAVAILABLE = "unavailable"
    """It was not looked at: the LLM had just failed a request that the cascade sent it."""
    UNSET = "unset"
    """It was not looked at: the route names no threshold, and the policy in force has none for it."""


class OutsidePromise(StrEnum):
    """Why the promise of a calibrated policy does not cover a request that the SLM served."""

    FORCED = "forced"
    """A mode, a model name, a key or a conversation sent it there."""
    KEPT_LOCAL = "kept_local"
    """It is out of scope, and `outOfScope` keeps such requests."""
    FAILURE = "failure"
    """The LLM was down or failing, and the SLM served in its place."""
    BUDGET = "budget"
    """The dollar budget did not bear the LLM."""
    NOT_PROMISED = "not_promised"
    """No promise was in force: see the condition `GuaranteeValid`."""
    SYSTEM_PROMPT = "system_prompt"
    """Its system prompt is not the one that the labels were made with."""
    MULTI_TURN = "multi_turn"
    """It is a later turn of a conversation, and labels are single turns."""
    TOOLS = "tools"
    """It offers tools or carries their results."""
    SHAPE = "shape"
    """It asks for more than text in plain form: a schema, several answers, `completions`."""


class Mode(StrEnum):
    """How the route decides: `Hybrid` asks the gates, `LocalOnly` and `LLMOnly` force a path (kill switch)."""

    HYBRID = "Hybrid"
    LOCAL_ONLY = "LocalOnly"
    LLM_ONLY = "LLMOnly"
    SHADOW = "Shadow"
    """The gates are asked and what they say is recorded, but one path serves."""


class ShadowServe(StrEnum):
    """Which path serves in mode Shadow."""

    SLM = "SLM"
    LLM = "LLM"


class OutOfScopeAction(StrEnum):
    """What happens to a request that resembles nothing the route knows."""

    ESCALATE = "Escalate"
    REJECT = "Reject"
    KEEP_LOCAL = "KeepLocal"


class ExhaustedAction(StrEnum):
    """What happens to a request that the dollar budget keeps from the LLM."""

    DEGRADE = "Degrade"
    """The SLM answers, and header and record say why."""
    REJECT = "Reject"
    """429 with the time at which the budget is there again."""


class Api(StrEnum):
    """The OpenAI operation a request used."""

    CHAT_COMPLETIONS = "chat.completions"
    COMPLETIONS = "completions"


class Outcome(StrEnum):
    """How a request or an attempt ended."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    """The request was wrong (4xx other than 408 and 429)."""
    REJECTED = "rejected"
    """Refused by a rule of the route: out of scope, over a limit, unauthorised."""
    THROTTLED = "throttled"
    """429, 503 with Retry-After or 529 from the upstream, or the SLM was full."""
    UPSTREAM_ERROR = "upstream_error"
    """Refused or reset connection, 5xx, invalid body, error event before any content."""
    TIMEOUT = "timeout"
    CUT = "cut"
    """The stream broke after content had been sent to the client."""
    CANCELLED = "cancelled"
    """The client went away."""
    UNAFFORDABLE = "unaffordable"
    """The dollar budget did not bear the attempt's upper bound; nothing was sent."""
    LOST = "lost"
    """The process that served it died; recorded by its successor."""


class UsageSource(StrEnum):
    """Where token counts come from."""

    REPORTED = "reported"
    ESTIMATED = "estimated"
    NONE = "none"
    """Nothing was generated: a refused connection, an error status."""


class Header(StrEnum):
    """Response headers that clients see."""

    PATH = "x-hybridroute-path"
    GATE = "x-hybridroute-gate"
    CONFIDENCE = "x-hybridroute-confidence"
    REQUEST_ID = "x-hybridroute-request-id"
    COST_USD = "x-hybridroute-cost-usd"
    UPSTREAM = "x-hybridroute-upstream"
    RETRY_BUDGET = "x-hybridroute-retry-budget"
    """`exhausted` on an answer whose request would have been tried again, had there been a token."""
    RESETS_AT = "x-hybridroute-budget-resets-at"
    """Unix seconds at which an exhausted dollar budget is there again."""
    UPSTREAM_REQUEST_ID = "x-hybridroute-upstream-request-id"
    """The provider's own `x-request-id`, for its support."""
    CASCADE = "x-hybridroute-cascade"
    """What the cascade made of the SLM's answer: `passed: margin 0.812 >= 0.600 over 16 tokens`."""


class InternalHeader(StrEnum):
    """Headers between router and paths. The router strips every `x-hybridroute-*` header a client sends."""

    TOKEN = "x-hybridroute-internal-token"  # noqa: S105 - a header's name
    REQUEST_ID = "x-hybridroute-request-id"
    GATE = "x-hybridroute-gate"
    FAILURE = "x-hybridroute-failure"
    """On a path's error answer: the Outcome, said by our own app and not by an ingress in between."""
    COST_NANO_USD = "x-hybridroute-cost-nano-usd"
    UPSTREAM = "x-hybridroute-upstream"
    CLIENT = "x-hybridroute-client"
    """Name of the client whose key the request came with; never the key."""
    FAILED_OVER = "x-hybridroute-failed-over"
    """`1` on a request that another path has failed: its first attempt here is paid from the retry budget."""
    DEADLINE_SECONDS = "x-hybridroute-deadline-seconds"
    """What is left of the caller's own deadline."""
    ATTEMPT = "x-hybridroute-attempt"
    """To the SLM, on a request that it has had before: the number of this attempt."""
    CASCADE_TOKENS = "x-hybridroute-cascade-tokens"
    """To the SLM: hold so many tokens of the answer, and say how sure they are."""
    CASCADE_MARGIN = "x-hybridroute-cascade-margin"
    """On the SLM's answer: `<margin> <tokens>` of what was held, or why there is no margin."""


class ErrorCode(StrEnum):
    """`error.code` in OpenAI-shaped error bodies that HybridRoute itself makes."""

    INVALID_JSON = "invalid_json"
    INVALID_REQUEST = "invalid_request"
    BODY_TOO_LARGE = "body_too_large"
    MODEL_NOT_FOUND = "model_not_found"
    UNSUPPORTED_ENCODING = "unsupported_content_encoding"
    NOT_SUPPORTED = "unsupported_endpoint"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    OUT_OF_SCOPE = "out_of_scope"
    PATH_UNAVAILABLE = "path_unavailable"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_THROTTLED = "upstream_throttled"
    SLM_OVERLOADED = "slm_overloaded"
    NOT_SERVED_BY_SLM = "not_served_by_slm"
    """The engine cannot serve the request: images, tools, too many choices."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    UNBOUNDED_COST = "unbounded_cost"
    API_KEY_MISSING = "api_key_missing"
    API_KEY_INVALID = "invalid_api_key"
    RATE_LIMITED = "rate_limit_exceeded"
    LOCAL_ONLY_KEY = "local_only_key"
    STARTING = "starting"
    STREAM_CUT = "stream_cut"
    TIMEOUT = "timeout"
    UNAUTHORIZED_INTERNAL = "internal_token_required"
    RECORD_NOT_FOUND = "record_not_found"
    ACCOUNT_NOT_FOUND = "account_not_found"
    """The keeper's word that an account has no budget now; clients never see it."""
    KEEPER_SUPERSEDED = "keeper_superseded"
    KEEPER_NOT_LEADING = "keeper_not_leading"
    """The keeper's word that another gateway serves, whose the ledger is; clients never see it."""
    INTERNAL = "internal_error"
