"""Whether the promise holds now, and whether it covered one request. Pure.

A promise is about requests like the labelled rows, kept on the SLM by the confidence gate, while the models are those
of the labels and inputs have not drifted. Whatever else the SLM serves is counted apart, with the reason.

| what | verdict |
|---|---|
| the route asks for no policy | Unknown, NoPolicy |
| it asks for one that has never been in force | Unknown, PolicyNotLoaded |
| the policy carries no promise | Unknown, NoPromise |
| `confidence.threshold` decides | Unknown, ThresholdByHand |
| SLM or LLM differ from those of the labels | False, ModelsChanged |
| a drift chart rang since the policy was put in place | False, Drifted |
| both paths' answers to audited requests have grown apart since then | False, ConceptDrift |
| the dollar budget bears no audit | Unknown, AuditStopped |
| the table promises no threshold for `maxRisk` | True, NothingKept |
| else | True, Certified |
"""

from hybridroute_api.standing import DriftStanding, Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.vocabulary import Gate, OutsidePromise
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision

__all__ = ["decide_guarantee", "odd_shape", "why_outside"]

_BY_GATE = {
    Gate.FORCED: OutsidePromise.FORCED,
    Gate.SCOPE: OutsidePromise.KEPT_LOCAL,
    Gate.HEALTH: OutsidePromise.FAILURE,
    Gate.OVERFLOW: OutsidePromise.FAILURE,
    Gate.BUDGET: OutsidePromise.BUDGET,
}


def decide_guarantee(
    terms: ArtifactTerms | None, standing: DriftStanding | None, *, asked: bool, problem: str | None = None
) -> Guarantee:
    """Return the verdict, by the first row that matches.

    `asked`: the route names a policy. `terms` is None while none is in force, and `problem` then says why. `standing`
    is what the keeper knows; None, or one of another artifact, knows nothing of drift.
    """
    if not asked:
        return Guarantee(
            GuaranteeStatus.UNKNOWN, GuaranteeReason.NO_POLICY, "the route has no calibrated policy"
        )
    if terms is None:
        return Guarantee(GuaranteeStatus.UNKNOWN, GuaranteeReason.POLICY_NOT_LOADED, problem or "")
    if terms.guarantee.status is not GuaranteeStatus.TRUE:
        return terms.guarantee
    if standing is not None and standing.artifact == terms.artifact:
        if standing.changed is not None:
            message = f"{standing.changed}: certify the policy on labels of what serves now"
            return Guarantee(GuaranteeStatus.FALSE, GuaranteeReason.MODELS_CHANGED, message)
        if standing.void is not None:
            message = f"{standing.void}; certify the policy on new labels"
            by_audit = standing.void_by_audit
            reason = GuaranteeReason.CONCEPT_DRIFT if by_audit else GuaranteeReason.DRIFTED
            return Guarantee(GuaranteeStatus.FALSE, reason, message)
        if standing.unknown is not None:
            return Guarantee(GuaranteeStatus.UNKNOWN, GuaranteeReason.AUDIT_STOPPED, standing.unknown)
    return terms.guarantee


def why_outside(
    decision: RouteDecision, facts: RequestFacts, terms: ArtifactTerms | None, standing: DriftStanding | None
) -> OutsidePromise | None:
    """Return why the promise does not cover a request that the SLM served by this decision; None when it does.

    A router that has not heard of the keeper since this artifact came promises nothing.
    """
    by_gate = _BY_GATE.get(decision.gate)
    if by_gate is not None and not (decision.gate is Gate.SCOPE and decision.confidence is None):
        return by_gate
    heard = standing is not None and terms is not None and standing.artifact == terms.artifact
    verdict = decide_guarantee(terms, standing, asked=True)
    if not heard or decision.gate is not Gate.CONFIDENCE or verdict.status is not GuaranteeStatus.TRUE:
        return OutsidePromise.NOT_PROMISED
    assert terms is not None  # noqa: S101 - heard of it
    return odd_shape(facts, terms)


def odd_shape(facts: RequestFacts, terms: ArtifactTerms) -> OutsidePromise | None:
    """Return what no labelled row had that this request has; None where it is of the labels' shape."""
    if facts.tools:
        return OutsidePromise.TOOLS
    if facts.multi_turn:
        return OutsidePromise.MULTI_TURN
    if not facts.plain:
        return OutsidePromise.SHAPE
    return None if facts.system_prompt == terms.system_prompt else OutsidePromise.SYSTEM_PROMPT
