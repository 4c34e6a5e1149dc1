"""The contract from keeper to routers and status about the promise, version 1: one standing for the whole fleet.

The keeper makes it of every replica's records; routers poll it and decide by it. Plain dataclasses, like records.
"""

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["DriftStanding", "Guarantee", "GuaranteeReason", "GuaranteeStatus"]


@dataclass(frozen=True, slots=True)
class DriftStanding:
    """What the keeper knows of one artifact's drift. Of no meaning to a router that decides by another artifact."""

    artifact: str
    """Digest of the artifact in force; empty while the route has none. Routers fetch it from the keeper."""
    alarm: str | None = None
    """The alarm in force, in a few words with its numbers; None: there is none."""
    void: str | None = None
    """Why drift has voided the promise; stays when the alarm ends."""
    void_by_audit: bool = False
    """What voided it was both paths' answers to audited requests, which have grown apart."""
    unknown: str | None = None
    """Why it is not known whether the promise holds."""
    changed: str | None = None
    """Why the weights that SLM replicas serve void the promise."""


class GuaranteeStatus(StrEnum):
    """Whether the promise holds for what is kept by it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class GuaranteeReason(StrEnum):
    """Why the promise holds, does not, or nobody knows. The words of the condition `GuaranteeValid`."""

    CERTIFIED = "Certified"
    """What is kept is within `maxRisk` by the certified table."""
    NOTHING_KEPT = "NothingKept"
    """The table promises no threshold for `maxRisk`, so nothing is kept and nothing can be regretted."""
    MODELS_CHANGED = "ModelsChanged"
    """A model is not the one that the promise was certified with."""
    DRIFTED = "Drifted"
    """The drift charts rang; only a policy that is certified on new labels restores the promise."""
    CONCEPT_DRIFT = "ConceptDrift"
    """Both paths' answers to audited requests have grown apart; only a policy certified on new labels restores it."""
    NO_POLICY = "NoPolicy"
    """Examples decide, or nothing does, and neither carries a promise."""
    POLICY_NOT_LOADED = "PolicyNotLoaded"
    """The policy that the route asks for has never been in force."""
    NO_PROMISE = "NoPromise"
    """The policy carries none: it was made of labels alone, or no rows were kept to certify with."""
    THRESHOLD_BY_HAND = "ThresholdByHand"
    """`confidence.threshold` decides, and no risk was asked to be promised."""
    AUDIT_STOPPED = "AuditStopped"
    """The dollar budget bears no audit, so nobody would notice that other answers have become right."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """The verdict on the promise, with its words for people."""

    status: GuaranteeStatus
    reason: GuaranteeReason
    message: str = ""
