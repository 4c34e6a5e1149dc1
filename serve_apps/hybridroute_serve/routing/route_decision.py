"""What a routing decision is: path, gate, numbers, and where the request may go instead. Values, and one shared step.

Made by `decision` and by what it asks; read by the router.
"""

from enum import StrEnum

import msgspec
from msgspec.structs import replace

from hybridroute_api.vocabulary import ErrorCode, Gate, OutOfScopeAction, PathName

__all__ = ["Fitness", "Rejection", "RouteDecision", "leave_scope"]


class Fitness(StrEnum):
    """What is known of the SLM for a request that is meant for the LLM."""

    FIT = "fit"
    """A local example is near, or the calibrated policy's scope gate knows it."""
    UNKNOWN = "unknown"
    """It can serve the request; nothing says how well."""
    BARRED = "barred"
    """It cannot or may not: incapable, forced to the LLM, or the SLM has been tried or was down."""


class Rejection(msgspec.Struct, frozen=True):
    """The router answers by itself."""

    status: int
    code: ErrorCode
    message: str
    """For the client."""


class RouteDecision(msgspec.Struct, frozen=True):
    """One decision. Scores are None where no gate asked for them."""

    path: PathName | None
    """None exactly when there is a rejection."""
    gate: Gate
    reason: str
    """A few words in the gate's own terms, with its numbers."""
    confidence: float | None = None
    threshold: float | None = None
    scope_score: float | None = None
    scope_threshold: float | None = None
    nearest: str | None = None
    cluster: int | None = None
    """For the drift charts; None unless a calibrated policy scored the request."""
    topic: int | None = None
    """The same."""
    fallbacks: tuple[PathName, ...] = ()
    """Where the request may go if the path fails before any content, see `decision.plan_failover`."""
    slm_fitness: Fitness = Fitness.BARRED
    """What `decision.plan_unaffordable` goes by; of no meaning while the path is the SLM."""
    rejection: Rejection | None = None
    shadow_gate: Gate | None = None
    """In mode Shadow: the gate that would have decided."""
    shadow_path: PathName | None = None
    """In mode Shadow: the path that it would have chosen; None where it would have refused."""


def leave_scope(numbers: RouteDecision, action: OutOfScopeAction) -> RouteDecision:
    """Return what the scope gate decides about a request whose score, in `numbers`, is below the threshold."""
    reason = f"scope {numbers.scope_score:.3f} < {numbers.scope_threshold:.3f}"
    decision = replace(numbers, gate=Gate.SCOPE, reason=reason)
    match action:
        case OutOfScopeAction.KEEP_LOCAL:
            return replace(
                decision, path=PathName.SLM, reason=f"{reason}, kept local", fallbacks=(PathName.LLM,)
            )
        case OutOfScopeAction.ESCALATE:
            return replace(decision, path=PathName.LLM, slm_fitness=Fitness.UNKNOWN)
        case OutOfScopeAction.REJECT:
            message = "the request is outside the scope of this service"
            return replace(decision, path=None, rejection=Rejection(422, ErrorCode.OUT_OF_SCOPE, message))
