"""`spec.routing`: what the router decides with, and its replicas."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from hybridroute_api.quantities import DecimalString
from hybridroute_api.v1alpha1.model import SpecModel, Text
from hybridroute_api.v1alpha1.scaling import RouterScaling
from hybridroute_api.vocabulary import OutOfScopeAction

__all__ = ["Confidence", "Routing", "RoutingExamples", "Scope"]

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


class Confidence(SpecModel):
    """When a request is trusted to the SLM."""

    threshold: DecimalString = Field(default=Decimal("0.5"), ge=0, le=1)
    """A request stays on the SLM when its confidence is at least this. Range "0" to "1"; default "0.5", as
    near to a local example as to a remote one.
    """


class Scope(SpecModel):
    """When a request resembles nothing that the route knows."""

    threshold: DecimalString = Field(default=Decimal("0.3"), ge=-1, le=1)
    """A request whose best cosine similarity to any example is below this is out of scope. Range "-1" (gate
    off) to "1"; default "0.3", a little under the 0.35 that suits the example route, since a new route has
    few examples.
    """


class Routing(SpecModel):
    """How the router decides between the paths."""

    examples: RoutingExamples = RoutingExamples()
    """Requests for either path. Default none, and then the LLM serves everything."""
    confidence: Confidence = Confidence()
    """When a request is trusted to the SLM. Default: a threshold of "0.5"."""
    scope: Scope = Scope()
    """When a request is out of scope. Default: a threshold of "0.3"."""
    out_of_scope: OutOfScopeAction = OutOfScopeAction.ESCALATE
    """What happens to a request out of scope: Escalate (the LLM serves), Reject (422) or KeepLocal. Default
    Escalate, which fails no request.
    """
    scaling: RouterScaling = RouterScaling()
    """How many replicas of the router. Default: one."""
