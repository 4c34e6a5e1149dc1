"""Values for decision tests: a policy, a request and scores that can be varied one field at a time."""

from dataclasses import dataclass

from hybridroute_api.serving import (
    BudgetPolicy,
    LivePolicy,
    LlmPolicy,
    RecordsPolicy,
    RoutingPolicy,
    SlmPolicy,
    TokenPrices,
    Upstream,
    UpstreamTimeouts,
)
from hybridroute_api.vocabulary import Mode, OutOfScopeAction, PathName
from hybridroute_serve.routing.examples import Scores
from hybridroute_serve.routing.facts import RequestFacts
from support.policies import a_retry_policy

CONTEXT_TOKENS = 2048
THRESHOLD = 0.7
SCOPE_THRESHOLD = 0.35


def policy_of(
    *,
    mode: Mode = Mode.HYBRID,
    out_of_scope: OutOfScopeAction = OutOfScopeAction.ESCALATE,
    threshold: float = THRESHOLD,
    scope_threshold: float = SCOPE_THRESHOLD,
    tools: bool = False,
    json_schema: bool = False,
    budget: BudgetPolicy | None = None,
    shadow_serve: PathName = PathName.LLM,
) -> LivePolicy:
    upstream = Upstream(
        name="primary",
        base_url="http://127.0.0.1:9/v1",
        model="big",
        prices=TokenPrices(input_nano_usd_per_million=1, output_nano_usd_per_million=1),
        timeouts=UpstreamTimeouts(connect_seconds=1, first_byte_seconds=1, total_seconds=1),
        max_output_tokens=64,
    )
    return LivePolicy(
        route="support",
        mode=mode,
        shadow_serve=shadow_serve,
        slm=SlmPolicy(
            model_name="small",
            context_tokens=CONTEXT_TOKENS,
            tools=tools,
            json_schema=json_schema,
            machine_hour_nano_usd=0,
            first_byte_seconds=1,
            total_seconds=1,
        ),
        llm=LlmPolicy(upstreams=(upstream,), retries=a_retry_policy()),
        routing=RoutingPolicy(
            threshold=threshold, scope_threshold=scope_threshold, out_of_scope=out_of_scope
        ),
        budget=budget,
        auth=None,
        records=RecordsPolicy(max_age_seconds=1, max_bytes=1, prompt_text=False),
        max_body_bytes=1,
    )


def request_of(
    *,
    model: str = "hybridroute",
    images: bool = False,
    conversation_path: PathName | None = None,
    local_only: bool = False,
) -> RequestFacts:
    return RequestFacts(
        requested_model=model,
        text="any",
        estimated_prompt_tokens=20,
        images=images,
        conversation_path=conversation_path,
        local_only=local_only,
    )


@dataclass(frozen=True, slots=True)
class FixedScorer:
    """Says the same of every text."""

    confidence: float = 0.9
    scope: float = 0.8
    local_scope: float = 0.8

    def score_text(self, text: str) -> Scores:
        return Scores(
            confidence=self.confidence,
            scope=self.scope,
            local_scope=self.local_scope,
            local_similarity=0.6,
            remote_similarity=0.4,
            nearest="a known example",
            nearest_path=PathName.SLM,
        )


class UnaskedScorer:
    """Fails a test in which a gate before the scores should have decided."""

    def score_text(self, text: str) -> Scores:
        raise AssertionError("the request was scored although an earlier gate decides")
