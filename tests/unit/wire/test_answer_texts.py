"""The text that two answers are compared by."""

import json

import pytest

from hybridroute_serve.wire.answer_texts import read_text
from hybridroute_serve.wire.answers import InvalidAnswerError
from support.upstream import DONE, chat_answer, content_event, event, finish_event, role_event, usage_event


def test_a_whole_answer() -> None:
    assert read_text(json.dumps(chat_answer("Hello")).encode(), streamed=False) == "Hello"
    completion = {"choices": [{"index": 0, "text": "once"}, {"index": 1, "text": "twice"}]}
    assert read_text(json.dumps(completion).encode(), streamed=False) == "once"
    refusal = {"choices": [{"message": {"content": None, "refusal": "No."}}]}
    assert read_text(json.dumps(refusal).encode(), streamed=False) == "No."


def test_a_stream_is_put_together() -> None:
    chunks = [role_event(), content_event("Hel"), b": a comment\n\n", content_event("lo"), finish_event()]
    assert read_text(b"".join([*chunks, usage_event(), DONE]), streamed=True) == "Hello"


def test_reasoning_and_tool_calls_are_no_text() -> None:
    message = {"content": "Hi", "reasoning_content": "hm", "tool_calls": [{"id": "1"}]}
    assert read_text(json.dumps({"choices": [{"message": message}]}).encode(), streamed=False) == "Hi"


@pytest.mark.parametrize(
    "body", [b"", b"no", b"[]", b'{"error": {"message": "no"}}', b'{"choices": 1}', b"{}"]
)
def test_what_is_no_answer_is_said(body: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        read_text(body, streamed=False)


def test_an_error_in_a_stream_is_said() -> None:
    with pytest.raises(InvalidAnswerError):
        read_text(content_event("Hel") + event({"error": {"message": "cut"}}), streamed=True)
