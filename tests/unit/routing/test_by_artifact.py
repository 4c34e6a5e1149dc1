"""What a calibrated policy decides: scope, confidence, drift, and where a request may go instead."""

from dataclasses import dataclass, replace

import pytest

from hybridroute_api.standing import DriftStanding, Guarantee, GuaranteeReason, GuaranteeStatus
from hybridroute_api.vocabulary import DriftAction, Gate, OutOfScopeAction, PathName
from hybridroute_serve.routing.artifact.scorer import ArtifactScores
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.by_artifact import CalibratedPolicy, decide_by_artifact
from hybridroute_serve.routing.decision import decide_route
from hybridroute_serve.routing.facts import PathHealth
from hybridroute_serve.routing.route_decision import Fitness, RouteDecision
from support.routing_cases import policy_of, request_of

HOLDS = Guarantee(GuaranteeStatus.TRUE, GuaranteeReason.CERTIFIED)
TERMS = ArtifactTerms(
    artifact="digest",
    threshold=0.7,
    why="joint regret <= 0.04",
    scope_threshold=0.3,
    drift_action=DriftAction.TIGHTEN,
    tight_threshold=0.9,
    guarantee=HOLDS,
    system_prompt=None,
)
ALARM = DriftStanding("digest", alarm="scope 1.20 of the limit", void="drift")


@dataclass(frozen=True)
class FixedArtifact:
    """Says the same of every text."""

    confidence: float | None = 0.8
    scope: float = 0.6

    def score_text(self, text: str) -> ArtifactScores:
        return ArtifactScores(self.confidence, self.scope, "billing", 3, 1)


def decide(
    confidence: float | None = 0.8,
    scope: float = 0.6,
    *,
    terms: ArtifactTerms = TERMS,
    out_of_scope: OutOfScopeAction = OutOfScopeAction.ESCALATE,
    standing: DriftStanding | None = None,
) -> RouteDecision:
    policy = CalibratedPolicy(FixedArtifact(confidence, scope), terms)
    return decide_by_artifact("any", policy, out_of_scope, standing)


def test_a_confident_request_in_scope_stays_and_is_recorded_for_the_charts() -> None:
    decision = decide()
    assert (decision.path, decision.gate) == (PathName.SLM, Gate.CONFIDENCE)
    assert decision.fallbacks == (PathName.LLM,)
    assert (decision.confidence, decision.threshold) == (0.8, 0.7)
    assert (decision.scope_score, decision.scope_threshold, decision.nearest) == (0.6, 0.3, "billing")
    assert (decision.cluster, decision.topic) == (3, 1)
    assert decision.reason == "confidence 0.800 >= 0.700"


def test_below_the_threshold_the_llm_serves_and_the_slm_is_fit() -> None:
    decision = decide(0.69)
    assert (decision.path, decision.gate) == (PathName.LLM, Gate.CONFIDENCE)
    assert (decision.fallbacks, decision.slm_fitness) == ((PathName.SLM,), Fitness.FIT)


def test_without_a_threshold_nothing_stays_and_the_reason_says_why() -> None:
    decision = decide(0.99, terms=replace(TERMS, threshold=None, why="nothing is kept: too few rows"))
    assert decision.path is PathName.LLM
    assert decision.reason == "confidence 0.990, but nothing is kept: too few rows"


def test_labels_alone_keep_what_is_in_scope() -> None:
    decision = decide(None, terms=replace(TERMS, threshold=None))
    assert (decision.path, decision.gate) == (PathName.SLM, Gate.SCOPE)


@pytest.mark.parametrize(
    ("action", "path"),
    [
        (OutOfScopeAction.ESCALATE, PathName.LLM),
        (OutOfScopeAction.KEEP_LOCAL, PathName.SLM),
        (OutOfScopeAction.REJECT, None),
    ],
)
def test_out_of_scope(action: OutOfScopeAction, path: PathName | None) -> None:
    decision = decide(0.99, 0.29, out_of_scope=action)
    assert (decision.path, decision.gate) == (path, Gate.SCOPE)
    assert decision.slm_fitness is not Fitness.FIT
    assert (decision.rejection is None) == (path is not None)


@pytest.mark.parametrize(
    ("action", "confidence", "path"),
    [
        (DriftAction.TIGHTEN, 0.8, PathName.LLM),
        (DriftAction.TIGHTEN, 0.95, PathName.SLM),
        (DriftAction.ESCALATE_ALL, 0.95, PathName.LLM),
        (DriftAction.ALERT_ONLY, 0.8, PathName.SLM),
    ],
)
def test_an_alarm_takes_what_would_stay(action: DriftAction, confidence: float, path: PathName) -> None:
    decision = decide(confidence, terms=replace(TERMS, drift_action=action), standing=ALARM)
    assert decision.path is path
    assert decision.gate is (Gate.DRIFT if path is PathName.LLM else Gate.CONFIDENCE)
    if path is PathName.LLM:
        assert "scope 1.20 of the limit" in decision.reason
        assert (decision.fallbacks, decision.slm_fitness) == ((PathName.SLM,), Fitness.FIT)


def test_an_alarm_about_another_artifact_and_what_goes_to_the_llm_anyway_stay_as_they_are() -> None:
    assert decide(standing=replace(ALARM, artifact="other")).path is PathName.SLM
    assert decide(0.5, standing=ALARM).gate is Gate.CONFIDENCE
    kept_local = decide(0.8, 0.1, out_of_scope=OutOfScopeAction.KEEP_LOCAL, standing=ALARM)
    assert (kept_local.path, kept_local.gate, kept_local.fallbacks) == (PathName.LLM, Gate.DRIFT, ())


def test_the_whole_decision_asks_it_after_the_gates_before() -> None:
    policy = CalibratedPolicy(FixedArtifact(), TERMS)
    kept = decide_route(request_of(), policy_of(), policy, PathHealth())
    assert (kept.path, kept.gate) == (PathName.SLM, Gate.CONFIDENCE)
    alarmed = decide_route(request_of(), policy_of(), policy, PathHealth(), ALARM)
    assert (alarmed.path, alarmed.gate) == (PathName.LLM, Gate.DRIFT)
    images = decide_route(request_of(images=True), policy_of(), policy, PathHealth(), ALARM)
    assert (images.gate, images.confidence) == (Gate.CAPABILITY, None)
    down = decide_route(request_of(), policy_of(), policy, PathHealth(slm_up=False))
    assert (down.path, down.gate) == (PathName.LLM, Gate.HEALTH)
