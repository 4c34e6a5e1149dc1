"""Records and reports with everything filled in, for tests of the journal and the keeper."""

from msgspec.structs import replace

from hybridroute_api.records import AttemptReport, DecisionRecord, OpenAttempt, OpenRequest, TokenUsage
from hybridroute_api.vocabulary import Api, Gate, Outcome, PathName, UsageSource

__all__ = ["a_record", "an_attempt", "an_open_attempt", "an_open_request"]


def an_open_request(request_id: str, **changes: object) -> OpenRequest:
    request = OpenRequest(
        request_id=request_id,
        route="support",
        api=Api.CHAT_COMPLETIONS,
        stream=False,
        requested_model="hybridroute",
        path=PathName.SLM,
        gate=Gate.CONFIDENCE,
        reason="confidence 0.91 >= threshold 0.80",
        received_at=1000.0,
        policy_version="v1",
        confidence=0.91,
        threshold=0.8,
        scope_score=0.7,
        scope_threshold=0.3,
        nearest="how do I block my card",
    )
    return replace(request, **changes)  # type: ignore[arg-type]


def a_record(request_id: str, **changes: object) -> DecisionRecord:
    record = DecisionRecord(
        request_id=request_id,
        route="support",
        replica="router-1",
        api=Api.CHAT_COMPLETIONS,
        stream=False,
        requested_model="hybridroute",
        path=PathName.SLM,
        gate=Gate.CONFIDENCE,
        reason="confidence 0.91 >= threshold 0.80",
        status=200,
        outcome=Outcome.OK,
        received_at=1000.0,
        decision_seconds=0.0004,
        total_seconds=0.25,
        first_byte_seconds=0.25,
        policy_version="v1",
        confidence=0.91,
        threshold=0.8,
        scope_score=0.7,
        scope_threshold=0.3,
        nearest="how do I block my card",
    )
    return replace(record, **changes)  # type: ignore[arg-type]


def an_open_attempt(request_id: str, number: int = 1, **changes: object) -> OpenAttempt:
    attempt = OpenAttempt(
        attempt_id=f"{request_id}/llm/{number}",
        request_id=request_id,
        route="support",
        path=PathName.LLM,
        upstream="primary",
        model="big",
        gate=Gate.CONFIDENCE,
        started_at=1000.0,
        estimated_prompt_tokens=40,
        streamed=False,
    )
    return replace(attempt, **changes)  # type: ignore[arg-type]


def an_attempt(request_id: str, number: int = 1, **changes: object) -> AttemptReport:
    report = AttemptReport(
        attempt_id=f"{request_id}/llm/{number}",
        request_id=request_id,
        route="support",
        path=PathName.LLM,
        upstream="primary",
        model="big",
        gate=Gate.CONFIDENCE,
        started_at=1000.0,
        total_seconds=0.2,
        outcome=Outcome.OK,
        usage=TokenUsage(prompt_tokens=40, completion_tokens=10, source=UsageSource.REPORTED),
        streamed=False,
        status=200,
        first_byte_seconds=0.1,
        cost_nano_usd=200_000,
    )
    return replace(report, **changes)  # type: ignore[arg-type]
