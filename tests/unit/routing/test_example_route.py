"""The route that `make up` starts: its examples and thresholds do what its first line says."""

from pathlib import Path

import pytest
import yaml

from hybridroute_api.serving import LivePolicy
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.vocabulary import Gate, PathName
from hybridroute_serve.routing.decision import decide_route
from hybridroute_serve.routing.embedding import StaticEmbedder
from hybridroute_serve.routing.examples import ExamplesScorer
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.routing.text import routing_text
from support.routing_cases import policy_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "hybridroute.yaml"

BANK = [
    "Why was my card declined?",
    "How do I dispute a charge on my card?",
    "what's my checking balance",
    "can you raise my credit limit please",
    "My wallet is gone, block the card!",
    "I'd like to order new checks",
]
OTHERS = [
    "write a sonnet about the sea",
    "Implement an LRU cache in Rust",
    "What is the weather in Paris?",
    "Translate 'where is the station' into German",
    "Plan a three day trip to Lisbon",
    "hi",
]


@pytest.fixture(scope="module")
def policy() -> LivePolicy:
    routing = HybridRoute.model_validate(yaml.safe_load(EXAMPLE.read_text())).spec.routing
    assert routing.confidence.threshold is not None
    assert routing.scope.threshold is not None
    base = policy_of(
        threshold=float(routing.confidence.threshold),
        scope_threshold=float(routing.scope.threshold),
        out_of_scope=routing.out_of_scope,
    )
    examples = {"local_examples": routing.examples.local, "remote_examples": routing.examples.remote}
    return base.model_copy(update={"routing": base.routing.model_copy(update=examples)})


@pytest.fixture(scope="module")
def scorer(policy: LivePolicy, embedder: StaticEmbedder) -> ExamplesScorer:
    return ExamplesScorer(embedder, policy.routing.local_examples, policy.routing.remote_examples)


def decide(
    text: str, policy: LivePolicy, scorer: ExamplesScorer, health: PathHealth | None = None
) -> RouteDecision:
    facts = RequestFacts(requested_model="support", text=routing_text(text), estimated_prompt_tokens=20)
    return decide_route(facts, policy, scorer, health or PathHealth())


@pytest.mark.parametrize("question", BANK)
def test_a_banks_questions_stay_local(question: str, policy: LivePolicy, scorer: ExamplesScorer) -> None:
    decision = decide(question, policy, scorer)
    assert (decision.path, decision.gate) == (PathName.SLM, Gate.CONFIDENCE), decision.reason


@pytest.mark.parametrize("question", OTHERS)
def test_the_rest_goes_to_the_llm_and_never_to_the_slm_in_its_place(
    question: str, policy: LivePolicy, scorer: ExamplesScorer
) -> None:
    decision = decide(question, policy, scorer)
    assert decision.path is PathName.LLM, decision.reason
    assert decision.gate in (Gate.SCOPE, Gate.CONFIDENCE)
    without_llm = decide(question, policy, scorer, PathHealth(llm_up=False))
    assert (without_llm.path, without_llm.gate) == (None, Gate.HEALTH)


def test_every_example_is_on_its_own_side(policy: LivePolicy, scorer: ExamplesScorer) -> None:
    for example in policy.routing.local_examples:
        assert scorer.score_text(example).confidence > 0.5, example
    for example in policy.routing.remote_examples:
        assert scorer.score_text(example).confidence < policy.routing.threshold, example


@pytest.mark.parametrize("length", [100_000, 1_000_000])
def test_a_long_prompt_is_decided_by_its_ends(
    length: int, policy: LivePolicy, scorer: ExamplesScorer
) -> None:
    padding = "lorem ipsum dolor sit amet " * (length // 27 + 1)
    bank = "My credit card was declined at the shop, why? " * 30
    poem = "Write a sonnet about the autumn leaves. " * 40
    assert decide(bank + padding[:length] + bank, policy, scorer).path is PathName.SLM
    assert decide(poem + bank[:200] + padding[:length] + poem, policy, scorer).path is PathName.LLM
