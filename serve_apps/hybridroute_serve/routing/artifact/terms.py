"""What an artifact and the live policy come to together: thresholds, and whether a promise is made. Pure.

Made anew whenever either changes, by the keeper for status and by each router to decide with, so that both say the
same. Editing `maxRisk` is a look into the certified table and nothing more.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hybridroute_api.serving import ArtifactPolicy, CascadePolicy
from hybridroute_api.standing import Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.vocabulary import DriftAction
from hybridroute_serve.routing.artifact.header import ArtifactHeader
from hybridroute_serve.routing.artifact.margins import MarginChoice
from hybridroute_serve.routing.artifact.promise import Promise
from hybridroute_serve.routing.artifact.validity import void_reasons

__all__ = ["ArtifactTerms", "plan_terms"]


@dataclass(frozen=True, slots=True)
class ArtifactTerms:
    """How one artifact decides under one live policy."""

    artifact: str
    """Its digest."""
    threshold: float | None
    """A request is kept when its confidence is at least this; None keeps none."""
    why: str
    """Where the threshold comes from, in a few words with its numbers."""
    scope_threshold: float
    drift_action: DriftAction
    tight_threshold: float | None
    """What takes the threshold's place while `DriftAction.TIGHTEN` is in force; None keeps none."""
    guarantee: Guarantee
    """The verdict, drift left out."""
    system_prompt: str | None
    """Digest of the system prompt that the promise is about; None: of requests without one."""
    kept_share: float | None = None
    """Share of the certification rows that the threshold keeps; None without a promise."""
    margin: MarginChoice | None = None
    """The cascade's threshold; None on a route without a cascade, and on one that names its own."""


def plan_terms(
    header: ArtifactHeader,
    digest: str,
    asked: ArtifactPolicy,
    models: Mapping[str, str],
    cascade: CascadePolicy | None = None,
) -> ArtifactTerms:
    """Return the terms. `models`: what serves now, see `validity.route_models`."""
    promise = (
        header.promise.threshold_for(asked.max_risk, asked.delta)
        if header.promise is not None and asked.max_risk is not None
        else None
    )
    tight = (
        header.promise.threshold_for(asked.tighten_max_risk, asked.delta)
        if header.promise is not None
        else None
    )
    own = asked.scope_threshold
    threshold = promise.threshold if promise is not None else asked.threshold
    return ArtifactTerms(
        artifact=digest,
        threshold=threshold,
        why=_explain(header, asked, promise),
        scope_threshold=header.scope.threshold if own is None else own,
        drift_action=asked.drift_action,
        tight_threshold=tight.threshold if tight is not None else None,
        guarantee=_judge(header, asked, promise, void_reasons(header, models)),
        system_prompt=header.models.get("system_prompt"),
        kept_share=promise.kept_share if promise is not None else None,
        margin=_choose_margin(header, cascade, threshold),
    )


def _choose_margin(
    header: ArtifactHeader, cascade: CascadePolicy | None, threshold: float | None
) -> MarginChoice | None:
    if cascade is None or cascade.threshold is not None:
        return None
    if header.margins is None:
        return MarginChoice(None, "the policy was calibrated without margins: give cascade.threshold")
    return header.margins.choose(threshold, cascade.max_share, cascade.tokens)


def _explain(header: ArtifactHeader, asked: ArtifactPolicy, promise: Promise | None) -> str:
    if promise is not None:
        return promise.reason
    if header.calibration is None:
        return "what is in scope is kept: the policy has no confidence to ask"
    if asked.threshold is not None:
        return f"confidence.threshold {asked.threshold:g} by hand"
    return f"nothing is kept: {header.promise_note}; set confidence.threshold, or certify the policy"


def _judge(
    header: ArtifactHeader, asked: ArtifactPolicy, promise: Promise | None, void: tuple[str, ...]
) -> Guarantee:
    if header.promise is None:
        return Guarantee(GuaranteeStatus.UNKNOWN, GuaranteeReason.NO_PROMISE, header.promise_note)
    if promise is None:
        message = (
            f"confidence.threshold {asked.threshold:g} is by hand: give confidence.maxRisk for a promise"
        )
        return Guarantee(GuaranteeStatus.UNKNOWN, GuaranteeReason.THRESHOLD_BY_HAND, message)
    if void:
        message = f"{'; '.join(void)}: certify the policy on labels of what serves now"
        return Guarantee(GuaranteeStatus.FALSE, GuaranteeReason.MODELS_CHANGED, message)
    if promise.threshold is None:
        return Guarantee(GuaranteeStatus.TRUE, GuaranteeReason.NOTHING_KEPT, promise.reason)
    return Guarantee(GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED, promise.reason)
