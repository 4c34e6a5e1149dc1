"""vLLM's refusals in OpenAI's terms."""

import json

import pytest

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.engines.vllm_dialect import VllmDialect


def refusal(message: str, param: str | None = None) -> bytes:
    error = {"message": message, "type": "BadRequestError", "param": param, "code": 400}
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("This model's maximum context length is 2048 tokens.", ErrorCode.CONTEXT_LENGTH_EXCEEDED),
        ('"auto" tool choice requires --enable-auto-tool-choice', ErrorCode.NOT_SERVED_BY_SLM),
        ("Invalid JSON grammar specification.", ErrorCode.NOT_SERVED_BY_SLM),
        ("top_k must be 0, -1, or at least 1, got -2.", ErrorCode.INVALID_REQUEST),
    ],
)
def test_a_refusal_says_whether_another_model_may_serve_it(message: str, code: ErrorCode) -> None:
    answer = VllmDialect().explain_refusal(400, refusal(message, "top_k"))
    assert answer is not None
    assert (answer.status, answer.code, answer.message, answer.param) == (400, code, message, "top_k")


@pytest.mark.parametrize(("status", "body"), [(500, refusal("no")), (400, b"oops"), (404, refusal("no"))])
def test_what_is_no_refusal_of_the_request_is_a_failure(status: int, body: bytes) -> None:
    assert VllmDialect().explain_refusal(status, body) is None


def test_requests_and_answers_pass_as_they_are() -> None:
    dialect = VllmDialect()
    assert not dialect.streams_always
    assert dialect.prepare_body(b'{"min_p": 0.1}', Api.CHAT_COMPLETIONS) == b'{"min_p": 0.1}'
    assert dialect.clean_events(b"data: {}\n\n") == b"data: {}\n\n"
