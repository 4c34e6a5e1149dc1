"""Conditions of a HybridRoute: their types, their reasons, and the truth table of Ready and Degraded.

Polarity is positive (True is good) for all but Degraded. Pure: whoever observes the parts hands their
verdicts in.
"""

from dataclasses import dataclass
from enum import StrEnum

from hybridroute_api.vocabulary import Mode, PathName

__all__ = [
    "ConditionReason",
    "ConditionStatus",
    "ConditionType",
    "PartStates",
    "Verdict",
    "decide_degraded",
    "decide_ready",
]


class ConditionStatus(StrEnum):
    """A condition's value. Unknown: not observed yet, or on its way."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class ConditionType(StrEnum):
    """What a condition speaks of."""

    READY = "Ready"
    """The route serves requests, perhaps not by the path that it would choose."""
    ACCEPTED = "Accepted"
    """The spec is valid."""
    ROUTER_READY = "RouterReady"
    """At least one router replica answers."""
    SLM_READY = "SLMReady"
    """At least one SLM replica answers."""
    LLM_READY = "LLMReady"
    """At least one replica of the LLM proxy answers and at least one upstream is up."""
    BUDGET_AVAILABLE = "BudgetAvailable"
    """The dollar budget bears further requests of the LLM path. Ready and Degraded do not depend on it."""
    GUARANTEE_VALID = "GuaranteeValid"
    """The promise of a calibrated policy holds for what is served. Ready and Degraded do not depend on it."""
    DEGRADED = "Degraded"
    """A part that the mode needs is faulty. The only condition whose True is bad."""


class ConditionReason(StrEnum):
    """Why a condition has its value; one word for programs, beside a message for people."""

    SERVING = "Serving"
    """Every part that the mode needs is up."""
    LLM_CARRIES = "LLMCarries"
    """The SLM is faulty; the LLM serves what it may."""
    SLM_CARRIES = "SLMCarries"
    """The LLM is faulty; the SLM serves what it is fit for."""
    STARTING = "Starting"
    """No verdict yet on a part that decides."""
    NOT_ACCEPTED = "NotAccepted"
    """The spec is invalid; nothing is made of it."""
    ROUTER_DOWN = "RouterDown"
    """No router replica answers, so nothing is served."""
    PATHS_DOWN = "PathsDown"
    """No path that the mode needs is up."""
    VALID = "Valid"
    """The spec is valid."""
    INVALID = "Invalid"
    """The spec breaks a rule."""
    REPLICAS_UP = "ReplicasUp"
    """At least one replica answers."""
    NOT_REACHED = "NotReached"
    """The SLM's replicas answer, and no router finds one: it has not looked since, or the network lies between them."""
    UPSTREAMS_DOWN = "UpstreamsDown"
    """Every replica of the LLM proxy has found every upstream down."""
    CREDENTIALS_MISSING = "CredentialsMissing"
    """No upstream has its key and authorities, or clients' keys are missing: an object or its entry does not exist."""
    UNSCHEDULABLE = "Unschedulable"
    """A pod waits for a node with room, such as a free GPU."""
    POD_FAILED = "PodFailed"
    """A pod does not start, such as for an image that cannot be pulled."""
    DEPLOY_FAILED = "DeployFailed"
    """Ray Serve could not start the application, or finds it unhealthy."""
    TERMINATING = "Terminating"
    """An object of the route is being deleted and waits for its finalizers."""
    KUBERAY_MISSING = "KubeRayMissing"
    """The cluster does not know RayServices."""
    WITHIN_BUDGET = "WithinBudget"
    """Money is left in the window."""
    NOT_BUDGETED = "NotBudgeted"
    """The route has no budget."""
    BUDGET_EXHAUSTED = "BudgetExhausted"
    """Less than a hundredth of the limit is left in the window; `spec.budget` says what is served meanwhile."""
    PAST_UNKNOWN = "PastUnknown"
    """The ledger was lost: nothing may be spent until what may have been no longer counts."""
    CERTIFIED = "Certified"
    """What the policy keeps on the SLM is within `maxRisk` by its certified table."""
    NOTHING_KEPT = "NothingKept"
    """The table promises no threshold for `maxRisk`, so nothing is kept on the SLM and nothing can be regretted."""
    MODELS_CHANGED = "ModelsChanged"
    """A model is not the one that the promise was certified with."""
    DRIFTED = "Drifted"
    """The drift charts rang; only a policy that is certified on new labels restores the promise."""
    CONCEPT_DRIFT = "ConceptDrift"
    """Both paths' answers to audited requests have grown apart; only a policy certified on new labels restores it."""
    NO_POLICY = "NoPolicy"
    """No calibrated policy is asked for, and without one there is no promise."""
    POLICY_NOT_LOADED = "PolicyNotLoaded"
    """The policy that the route asks for has never been in force."""
    NO_PROMISE = "NoPromise"
    """The policy carries none: it was made of labels alone, or no rows were kept to certify with."""
    THRESHOLD_BY_HAND = "ThresholdByHand"
    """`confidence.threshold` decides, and no risk was asked to be promised."""
    AUDIT_STOPPED = "AuditStopped"
    """The dollar budget bears no audit, so nobody would notice that other answers have become right."""
    NAME_TAKEN = "NameTaken"
    """An object that the route needs exists and is not the route's."""


@dataclass(frozen=True, slots=True)
class PartStates:
    """Verdicts on the parts. A path at zero replicas on purpose counts as TRUE, by fault as FALSE."""

    mode: Mode
    accepted: ConditionStatus
    router: ConditionStatus
    slm: ConditionStatus
    llm: ConditionStatus

    @property
    def needed(self) -> dict[PathName, ConditionStatus]:
        """The paths that the mode needs, with their verdicts."""
        match self.mode:
            case Mode.LOCAL_ONLY:
                return {PathName.SLM: self.slm}
            case Mode.LLM_ONLY:
                return {PathName.LLM: self.llm}
            case Mode.HYBRID | Mode.SHADOW:
                return {PathName.SLM: self.slm, PathName.LLM: self.llm}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A condition's value and why."""

    status: ConditionStatus
    reason: ConditionReason


def decide_ready(parts: PartStates) -> Verdict:
    """Return Ready, by the first row that matches.

    | accepted | router | paths that the mode needs | Ready |
    |---|---|---|---|
    | False | any | any | False, NotAccepted |
    | any | False | any | False, RouterDown |
    | any | any | all False | False, PathsDown |
    | Unknown | any | any | Unknown, Starting |
    | True | Unknown | any | Unknown, Starting |
    | True | True | all True | True, Serving |
    | True | True | SLM True, LLM False | True, SLMCarries |
    | True | True | LLM True, SLM False or Unknown | True, LLMCarries |
    | True | True | SLM True, LLM Unknown | Unknown, Starting |
    | True | True | none True, one Unknown | Unknown, Starting |

    The LLM may serve every request, so it makes the route ready alone. The SLM is fit for some requests only:
    it carries a route whose LLM has failed, but a route that still starts waits for the LLM's verdict.
    """
    needed = parts.needed
    if parts.accepted is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.FALSE, ConditionReason.NOT_ACCEPTED)
    if parts.router is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.FALSE, ConditionReason.ROUTER_DOWN)
    if all(status is ConditionStatus.FALSE for status in needed.values()):
        return Verdict(ConditionStatus.FALSE, ConditionReason.PATHS_DOWN)
    if ConditionStatus.UNKNOWN in (parts.accepted, parts.router):
        return Verdict(ConditionStatus.UNKNOWN, ConditionReason.STARTING)
    if all(status is ConditionStatus.TRUE for status in needed.values()):
        return Verdict(ConditionStatus.TRUE, ConditionReason.SERVING)
    if needed.get(PathName.LLM) is ConditionStatus.TRUE:
        return Verdict(ConditionStatus.TRUE, ConditionReason.LLM_CARRIES)
    if needed.get(PathName.LLM) is ConditionStatus.FALSE and parts.slm is ConditionStatus.TRUE:
        return Verdict(ConditionStatus.TRUE, ConditionReason.SLM_CARRIES)
    return Verdict(ConditionStatus.UNKNOWN, ConditionReason.STARTING)


def decide_degraded(parts: PartStates) -> Verdict:
    """Return Degraded, by the first row that matches.

    | accepted | router | paths that the mode needs | Degraded |
    |---|---|---|---|
    | False | any | any | False, NotAccepted: a refused spec is no fault of a part |
    | any | False | any | True, RouterDown |
    | any | any | all False | True, PathsDown |
    | any | any | SLM False | True, LLMCarries |
    | any | any | LLM False | True, SLMCarries |
    | any Unknown | | | Unknown, Starting |
    | True | True | all True | False, Serving |
    """
    needed = parts.needed
    if parts.accepted is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.FALSE, ConditionReason.NOT_ACCEPTED)
    if parts.router is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.TRUE, ConditionReason.ROUTER_DOWN)
    if all(status is ConditionStatus.FALSE for status in needed.values()):
        return Verdict(ConditionStatus.TRUE, ConditionReason.PATHS_DOWN)
    if needed.get(PathName.SLM) is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.TRUE, ConditionReason.LLM_CARRIES)
    if needed.get(PathName.LLM) is ConditionStatus.FALSE:
        return Verdict(ConditionStatus.TRUE, ConditionReason.SLM_CARRIES)
    if ConditionStatus.UNKNOWN in (parts.accepted, parts.router, *needed.values()):
        return Verdict(ConditionStatus.UNKNOWN, ConditionReason.STARTING)
    return Verdict(ConditionStatus.FALSE, ConditionReason.SERVING)
