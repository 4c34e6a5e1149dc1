"""What a calibrated policy decides about a request: its scope gate, its confidence, and then drift. Pure.

The counterpart by examples is in `decision`, which asks either of the two.
"""

from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import Gate, OutOfScopeAction, PathName
from hybridroute_serve.routing.artifact.scorer import ArtifactScores
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.drift.action import leave_reason, plan_drift
from hybridroute_serve.routing.route_decision import Fitness, RouteDecision, leave_scope

__all__ = ["ArtifactScoring", "CalibratedPolicy", "decide_by_artifact"]


class ArtifactScoring(Protocol):
    """Scores a routing text with one artifact."""

    def score_text(self, text: str) -> ArtifactScores:
        """Return the text's scores; the same text always gets the same ones."""
        ...


@dataclass(frozen=True, slots=True)
class _KnownScores:
    """The scores of the one text that is asked about."""

    scores: ArtifactScores

    def score_text(self, text: str) -> ArtifactScores:  # noqa: ARG002 - there is one text
        return self.scores


@dataclass(frozen=True, slots=True)
class CalibratedPolicy:
    """An artifact, ready to score, and how it decides."""

    scorer: ArtifactScoring
    terms: ArtifactTerms
    is_slow: bool = False
    """True where scores take milliseconds: not to be computed in a loop that serves."""

    def with_scores(self, scores: ArtifactScores) -> "CalibratedPolicy":
        """Return the policy for one text whose scores are known."""
        return CalibratedPolicy(_KnownScores(scores), self.terms)


def decide_by_artifact(
    text: str, policy: CalibratedPolicy, out_of_scope: OutOfScopeAction, standing: DriftStanding | None
) -> RouteDecision:
    """Decide a request that no gate before the scope has an opinion of."""
    scores, terms = policy.scorer.score_text(text), policy.terms
    numbers = RouteDecision(
        None,
        Gate.CONFIDENCE,
        "",
        confidence=scores.confidence,
        threshold=terms.threshold,
        scope_score=scores.scope,
        scope_threshold=terms.scope_threshold,
        nearest=scores.nearest,
        cluster=scores.cluster,
        topic=scores.topic,
    )
    if scores.scope < terms.scope_threshold:
        decision = leave_scope(numbers, out_of_scope)
        onward = replace(decision, fallbacks=(), slm_fitness=Fitness.UNKNOWN)
    else:
        decision = _by_confidence(numbers, terms)
        onward = replace(decision, fallbacks=(PathName.SLM,), slm_fitness=Fitness.FIT)
    if decision.path is not PathName.SLM:
        return decision
    order = plan_drift(standing, terms.artifact, terms.drift_action, terms.tight_threshold)
    leaves = leave_reason(order, scores.confidence)
    return decision if leaves is None else replace(onward, path=PathName.LLM, gate=Gate.DRIFT, reason=leaves)


def _by_confidence(numbers: RouteDecision, terms: ArtifactTerms) -> RouteDecision:
    """Decide a request in scope. The SLM is fit for what its scope gate knows, also where the LLM is better."""
    escalated = replace(
        numbers, path=PathName.LLM, fallbacks=(PathName.SLM,), slm_fitness=Fitness.FIT, gate=Gate.CONFIDENCE
    )
    kept = replace(numbers, path=PathName.SLM, fallbacks=(PathName.LLM,))
    if numbers.confidence is None:
        reason = f"scope {numbers.scope_score:.3f} >= {numbers.scope_threshold:.3f}"
        return replace(kept, gate=Gate.SCOPE, reason=reason)
    if terms.threshold is None:
        return replace(escalated, reason=f"confidence {numbers.confidence:.3f}, but {terms.why}")
    if numbers.confidence < terms.threshold:
        return replace(escalated, reason=f"confidence {numbers.confidence:.3f} < {terms.threshold:.3f}")
    return replace(kept, reason=f"confidence {numbers.confidence:.3f} >= {terms.threshold:.3f}")
