"""`spec.routing`: what the router decides with, and its replicas."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from hybridroute_api.quantities import DecimalString
from hybridroute_api.v1alpha1.model import CLUSTER_ONLY, ObjectName, SecretKey, SpecModel, Text
from hybridroute_api.v1alpha1.scaling import RouterScaling
from hybridroute_api.vocabulary import DriftAction, OutOfScopeAction

__all__ = [
    "DEFAULT_AUDIT_SHARE",
    "DEFAULT_DELTA",
    "DEFAULT_MAX_RISK",
    "DEFAULT_SCOPE_THRESHOLD",
    "DEFAULT_THRESHOLD",
    "DEFAULT_TIGHTENING",
    "Audit",
    "Cascade",
    "Confidence",
    "Drift",
    "Policy",
    "Routing",
    "RoutingExamples",
    "Scope",
]

DEFAULT_THRESHOLD = Decimal("0.5")
"""Confidence by examples."""
DEFAULT_SCOPE_THRESHOLD = Decimal("0.3")
"""Scope by examples."""
DEFAULT_MAX_RISK = Decimal("0.05")
DEFAULT_DELTA = Decimal("0.1")
DEFAULT_TIGHTENING = Decimal("0.2")
"""`tightenMaxRisk` as a share of `maxRisk`."""
DEFAULT_AUDIT_SHARE = Decimal("0.02")

Example = Annotated[Text, Field(max_length=500)]
"""One example request. 500 characters of 500 examples twice fit the live policy into 1 MiB."""


class RoutingExamples(SpecModel):
    """Requests as clients write them. Enough to start with; no promise comes with them."""

    local: tuple[Example, ...] = Field(default=(), max_length=500)
    """Requests that the SLM can be trusted with. At most 500 of 1 to 500 characters; default none, and then
    the LLM serves.
    """
    remote: tuple[Example, ...] = Field(default=(), max_length=500)
    """Requests that look alike but need the LLM. At most 500 of 1 to 500 characters; default none, and then
    similarity to `local` alone decides.
    """


class Policy(SpecModel):
    """A calibrated artifact, made by `hybridroute calibrate`, that decides in the place of examples. On one machine
    `file`, in a cluster `configMapName`; an object for both has both.
    """

    file: Text | None = Field(default=None, max_length=1024)
    """The artifact, absolute or relative to the route's file, 1 to 1024 characters, on one machine. It is read again
    when it changes; a broken one leaves the last good one in force. Default none, which one machine refuses.
    """
    config_map_name: ObjectName | None = Field(default=None, json_schema_extra=CLUSTER_ONLY)
    """ConfigMap in the route's namespace that holds the artifact, in a cluster. A name of 1 to 253 characters; a change
    is in force within 10 s, and a broken one leaves the last good one in force. Default none, which a cluster refuses.
    """
    key: SecretKey = Field(default="policy.artifact", json_schema_extra=CLUSTER_ONLY)
    """Which of the ConfigMap's entries is the artifact, 1 to 253 characters. Default policy.artifact."""


class Confidence(SpecModel):
    """When a request is trusted to the SLM: by a risk that a policy promises, or by a threshold without a promise."""

    max_risk: DecimalString | None = Field(default=None, ge=0, le=1)
    """Joint regret that the promise allows: the probability that a request is kept on the SLM, the SLM is wrong and the
    LLM would have been right. The threshold follows from the policy's certified table. Range "0" to "1"; default "0.05"
    with a policy and no `threshold`, one request in twenty.
    """
    delta: DecimalString | None = Field(default=None, ge=Decimal("0.01"), le=Decimal("0.2"))
    """Chance that the promise was certified by luck: it holds with confidence 1 - delta. The certified table has
    "0.01", "0.05", "0.1" and "0.2", and the next smaller one is used. Range "0.01" to "0.2"; default "0.1".
    """
    threshold: DecimalString | None = Field(default=None, ge=0, le=1)
    """A request stays on the SLM when its confidence is at least this, and no risk is promised. Range "0" to "1";
    default "0.5" with examples, as near to a local example as to a remote one, and none with a policy.
    """


class Scope(SpecModel):
    """When a request resembles nothing that the route knows."""

    threshold: DecimalString | None = Field(default=None, ge=-1, le=1)
    """A request is out of scope below this: its best cosine similarity to any example, or its scope score by a policy.
    Range "-1" (gate off) to "1"; default with examples "0.3", a little under the 0.35 that suits the example route,
    since a new route has few examples; with a policy what calibration found.
    """


class Drift(SpecModel):
    """What an alarm of the policy's drift charts does to requests that would stay on the SLM. Whatever it does, the
    promise is void from the alarm until a policy that is certified on new labels is in place.
    """

    action: DriftAction = DriftAction.TIGHTEN
    """Tighten (only those stay that `tightenMaxRisk` would keep), EscalateAll (none stays) or AlertOnly (all stay).
    Default Tighten, which harms least and costs least.
    """
    tighten_max_risk: DecimalString | None = Field(default=None, ge=0, le=1)
    """Joint regret that the tightened threshold is read off the certified table with, at most `confidence.maxRisk`.
    Range "0" to "1"; default a fifth of `confidence.maxRisk`, "0.01" where that is not given.
    """


class Cascade(SpecModel):
    """A look at the SLM's own answer before its first byte: where the SLM was not sure of its words, the LLM answers.
    It looks at plain chat answers of one choice that the scope or confidence gate kept on the SLM.
    """

    threshold: DecimalString | None = Field(default=None, ge=0, le=1)
    """An answer whose margin is below this is given up for the LLM's. The margin is the mean, over the first `tokens`
    tokens, of how much likelier the likeliest token was than the next. Range "0" (look, escalate nothing) to "1";
    default what the policy was calibrated with for `maxShare`, and none with examples, where it must be given.
    """
    max_share: DecimalString = Field(default=Decimal("0.2"), ge=Decimal("0.001"), le=1)
    """Share of the route's requests that may be escalated so; beyond it the SLM's answers stand. Range "0.001" to "1";
    default "0.2", which keeps a threshold that is too high from turning the route into an LLM's.
    """
    tokens: int = Field(default=16, ge=1, le=256)
    """Tokens of the answer that the margin is taken of; a stream is held until they have come. Range 1 to 256; default
    16, about a sentence, and a fifth of a second at 80 tokens a second.
    """


class Audit(SpecModel):
    """A random share of the requests that the policy keeps is answered by both paths, and the two answers are compared:
    only so is it noticed that the same questions have come to need other answers. The client never waits for the copy,
    whose dollars come from the budget.
    """

    share: DecimalString = Field(default=DEFAULT_AUDIT_SHARE, ge=0, le=1)
    """Chance with which a kept request is also sent to the path that did not serve it. Range "0" (none) to "1"; default
    "0.02", which costs about a fiftieth of the LLM's dollars that keeping saves.
    """


class Routing(SpecModel):
    """How the router decides between the paths."""

    examples: RoutingExamples = RoutingExamples()
    """Requests for either path. Default none, and then, without a policy, the LLM serves everything."""
    policy: Policy | None = None
    """A calibrated artifact that decides, in the place of examples. Default none."""
    confidence: Confidence = Confidence()
    """When a request is trusted to the SLM. Default: a risk of "0.05" with a policy, a threshold of "0.5" without."""
    scope: Scope = Scope()
    """When a request is out of scope. Default: a threshold of "0.3", with a policy what calibration found."""
    drift: Drift | None = None
    """What a drift alarm does; only a policy has the charts. Default: action Tighten."""
    audit: Audit | None = None
    """Compare both paths' answers to a random share of kept requests; only a policy keeps by a promise that needs it.
    Default none, because it costs dollars.
    """
    cascade: Cascade | None = None
    """A look at the SLM's own answer before its first byte. Default none: what is kept on the SLM is passed on."""
    out_of_scope: OutOfScopeAction = OutOfScopeAction.ESCALATE
    """What happens to a request out of scope: Escalate (the LLM serves), Reject (422) or KeepLocal. Default
    Escalate, which fails no request.
    """
    scaling: RouterScaling = RouterScaling()
    """How many replicas of the router. Default: one."""
