"""What a person reads of a request, word for word."""

from msgspec.structs import replace

from hybridroute_api.records import AttemptReport, AuditResult, CascadeCheck, DecisionRecord, TokenUsage
from hybridroute_api.vocabulary import (
    CascadeVerdict,
    ErrorCode,
    Gate,
    Outcome,
    OutsidePromise,
    PathName,
    UsageSource,
)
from hybridroute_serve.keeper.explain import explain_record
from support.reports import a_record, an_attempt


def _slm(**changes: object) -> AttemptReport:
    slm = an_attempt("r1", path=PathName.SLM, upstream="slm", model="smollm2-135m", cost_nano_usd=5556)
    return replace(slm, **changes)  # type: ignore[arg-type]


def _line(record: DecisionRecord, *attempts: AttemptReport) -> str:
    return explain_record(record, attempts)


def test_kept_on_the_slm() -> None:
    record = a_record("r1", reason="confidence 0.910 >= 0.800 (local 0.910, remote 0.090)")
    assert _line(record, _slm()) == (
        "path slm, gate confidence: confidence 0.910 >= 0.800 (local 0.910, remote 0.090); "
        'scope 0.700, threshold 0.300; nearest example "how do I block my card"; '
        "slm smollm2-135m ok: 40+10 tokens; cost $0.000005556; 0.250 s, first byte 0.250 s; ok (200)"
    )


def test_the_promise_is_said() -> None:
    assert "; covered by the promise; " in _line(a_record("r1", guarantee_covered=True), _slm())
    outside = a_record("r1", outside_promise=OutsidePromise.MULTI_TURN)
    assert "; outside the promise: multi_turn; " in _line(outside, _slm())


def test_a_sure_answer_says_how_sure_it_was() -> None:
    check = CascadeCheck(CascadeVerdict.PASSED, 0.6, 0.8123, 16)
    assert "; cascade passed: margin 0.812 >= 0.600 over 16 tokens; " in _line(
        a_record("r1", cascade=check), _slm()
    )


def test_a_doubtful_answer_names_both_attempts_and_what_both_cost() -> None:
    check = CascadeCheck(CascadeVerdict.ESCALATED, 0.6, 0.4123, 16)
    record = a_record(
        "r1",
        path=PathName.LLM,
        gate=Gate.CASCADE,
        reason="margin 0.412 < 0.600 over 16 tokens; kept on the slm by confidence: confidence 0.910 >= 0.800",
        cascade=check,
        nearest=None,
        scope_score=None,
    )
    given_up = _slm(outcome=Outcome.CANCELLED, started_at=1.0)
    assert _line(record, given_up, an_attempt("r1", started_at=2.0)) == (
        "path llm, gate cascade: margin 0.412 < 0.600 over 16 tokens; kept on the slm by confidence: "
        "confidence 0.910 >= 0.800; cascade escalated: margin 0.412 < 0.600 over 16 tokens; "
        "slm smollm2-135m cancelled: 40+10 tokens; llm/primary big ok: 40+10 tokens; "
        "cost $0.000205556; 0.250 s, first byte 0.250 s; ok (200)"
    )


def test_an_audit_is_told_on_both_sides() -> None:
    request = a_record("r1", audit_propensity=0.05)
    audit = a_record("r1.audit", gate=Gate.AUDIT, path=PathName.LLM, audit=AuditResult("r1", 0.05, 0.42))
    assert "; audited by r1.audit: the answers are 0.42 of 1 apart; " in explain_record(request, [], audit)
    assert "; drawn with chance 0.05, the answers are 0.42 of 1 apart; " in _line(audit)
    unpaid = replace(audit, outcome=Outcome.UNAFFORDABLE, audit=AuditResult("r1", 0.05))
    assert "r1.audit: nothing to compare, llm unaffordable; " in explain_record(request, [], unpaid)


def test_out_of_scope() -> None:
    record = a_record(
        "r1", path=PathName.LLM, gate=Gate.SCOPE, reason="scope 0.120 < 0.300", scope_score=0.12
    )
    assert _line(record, an_attempt("r1")) == (
        "path llm, gate scope: scope 0.120 < 0.300; confidence 0.910, threshold 0.800; "
        'nearest example "how do I block my card"; '
        "llm/primary big ok: 40+10 tokens; cost $0.000200000; 0.250 s, first byte 0.250 s; ok (200)"
    )


def test_degraded_by_the_budget_for_a_client() -> None:
    reason = (
        "llm unaffordable: The dollar budget of this service does not bear the request, route USD 50 per 24h, "
        "resets at 2025-11-24T16:00:00Z; onExhausted Degrade; meant for it by confidence: confidence 0.200 < 0.800"
    )
    record = a_record("r1", gate=Gate.BUDGET, reason=reason, nearest=None, scope_score=None, client="bot")
    assert _line(record, _slm()) == (
        f"path slm, gate budget: {reason}; client bot; "
        "slm smollm2-135m ok: 40+10 tokens; cost $0.000005556; 0.250 s, first byte 0.250 s; ok (200)"
    )


def test_refused_for_want_of_a_key() -> None:
    record = a_record(
        "r1",
        path=None,
        gate=None,
        reason="",
        confidence=None,
        scope_score=None,
        nearest=None,
        status=401,
        outcome=Outcome.REJECTED,
        first_byte_seconds=None,
        error_code=ErrorCode.API_KEY_INVALID,
    )
    assert _line(record) == (
        "answered by the router: refused before a decision; cost $0.000000000; 0.250 s; rejected (401), invalid_api_key"
    )


def test_forced_and_cancelled_before_a_byte() -> None:
    record = a_record(
        "r1",
        gate=Gate.FORCED,
        reason="model slm",
        confidence=None,
        threshold=None,
        scope_score=None,
        scope_threshold=None,
        nearest=None,
        outcome=Outcome.CANCELLED,
        status=499,
        first_byte_seconds=None,
    )
    estimated = TokenUsage(prompt_tokens=40, completion_tokens=3, source=UsageSource.ESTIMATED)
    assert _line(record, _slm(outcome=Outcome.CANCELLED, usage=estimated)) == (
        "path slm, gate forced: model slm; slm smollm2-135m cancelled: 40+3 tokens estimated; "
        "cost $0.000005556; 0.250 s; cancelled (499)"
    )


def test_failed_over_names_both_attempts_in_their_order() -> None:
    record = a_record(
        "r1",
        path=PathName.LLM,
        gate=Gate.HEALTH,
        reason="slm failed: timeout; meant for it by confidence: confidence 0.910 >= 0.800; scope 0.700",
        failed_over_from=PathName.SLM,
        nearest="x" * 200,
    )
    failed = _slm(outcome=Outcome.TIMEOUT, usage=TokenUsage(), started_at=1.0)
    assert _line(record, an_attempt("r1", started_at=2.0), failed) == (
        "path llm, gate health: slm failed: timeout; meant for it by confidence: confidence 0.910 >= 0.800; "
        f'scope 0.700; nearest example "{"x" * 79}…"; failed over from slm; '
        "slm smollm2-135m timeout: no tokens; llm/primary big ok: 40+10 tokens; "
        "cost $0.000205556; 0.250 s, first byte 0.250 s; ok (200)"
    )


def test_refused_by_the_router() -> None:
    record = a_record(
        "r1",
        path=None,
        gate=None,
        reason="",
        confidence=None,
        scope_score=None,
        nearest=None,
        status=400,
        outcome=Outcome.CLIENT_ERROR,
        error_code=ErrorCode.INVALID_JSON,
        first_byte_seconds=0.001,
        total_seconds=0.001,
    )
    assert _line(record) == (
        "answered by the router: refused before a decision; cost $0.000000000; "
        "0.001 s, first byte 0.001 s; client_error (400), invalid_json"
    )


def test_an_examples_newlines_do_not_break_the_line() -> None:
    assert "\n" not in _line(a_record("r1", nearest="two\nlines"), _slm())
