"""A unary answer put together from a stream says what the stream said."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.records import TokenUsage
from hybridroute_api.vocabulary import Api
from hybridroute_serve.slm.assembly import AnswerAssembler
from hybridroute_serve.wire.answers import InvalidAnswerError

HEAD = {"id": "c-1", "created": 7, "model": "m", "system_fingerprint": "f"}


def _event(*choices: dict[str, Any], **more: Any) -> bytes:
    return b"data: " + json.dumps({**HEAD, "choices": choices, **more}).encode() + b"\n\n"


def _assemble(api: Api, *blocks: bytes, usage: TokenUsage | None = None) -> Any:
    assembler = AnswerAssembler(api)
    for block in blocks:
        assembler.feed(block)
    return json.loads(assembler.assemble(usage))


@given(st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5)), max_size=40))
def test_the_texts_of_all_choices_are_whole(pieces: list[tuple[int, str]]) -> None:
    blocks = [_event({"index": index, "delta": {"content": text}}) for index, text in pieces]
    answer = _assemble(Api.CHAT_COMPLETIONS, b"".join(blocks))
    wanted: dict[int, str] = {}
    for index, text in pieces:
        wanted[index] = wanted.get(index, "") + text
    got = {choice["index"]: choice["message"]["content"] for choice in answer["choices"]}
    assert got == wanted
    assert list(got) == sorted(got)


def test_a_chat_answer_has_openais_shape() -> None:
    answer = _assemble(
        Api.CHAT_COMPLETIONS,
        _event({"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}),
        _event({"index": 0, "delta": {"content": "Hi"}, "finish_reason": None}),
        _event({"index": 0, "delta": {}, "finish_reason": "stop"}),
        b"data: [DONE]\n\n",
        usage=TokenUsage(prompt_tokens=5, completion_tokens=2, cached_tokens=1),
    )
    assert answer == {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hi"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 2,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }


def test_a_completion_has_text_and_no_message() -> None:
    answer = _assemble(
        Api.COMPLETIONS,
        _event({"index": 0, "text": " on", "finish_reason": None}),
        _event({"index": 0, "text": "ce", "finish_reason": "length"}),
    )
    assert answer["object"] == "text_completion"
    assert answer["choices"] == [{"index": 0, "text": " once", "logprobs": None, "finish_reason": "length"}]
    assert "usage" not in answer


def test_logprobs_are_joined() -> None:
    answer = _assemble(
        Api.CHAT_COMPLETIONS,
        _event({"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}]}}),
        _event({"index": 0, "delta": {"content": "b"}, "logprobs": {"content": [{"token": "b"}]}}),
        _event({"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}),
    )
    assert answer["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


def test_tool_calls_are_joined_by_their_index() -> None:
    def piece(index: int, **call: Any) -> bytes:
        return _event({"index": 0, "delta": {"tool_calls": [{"index": index, **call}]}})

    answer = _assemble(
        Api.CHAT_COMPLETIONS,
        piece(0, id="t0", type="function", function={"name": "weather", "arguments": '{"ci'}),
        piece(1, id="t1", type="function", function={"name": "time", "arguments": "{}"}),
        piece(0, function={"arguments": 'ty":1}'}),
        _event({"index": 0, "delta": {}, "finish_reason": "tool_calls"}),
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "t0", "type": "function", "function": {"name": "weather", "arguments": '{"city":1}'}},
        {"id": "t1", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_reasoning_and_refusals_are_kept_apart_from_content() -> None:
    answer = _assemble(
        Api.CHAT_COMPLETIONS,
        _event({"index": 0, "delta": {"reasoning_content": "hm"}}),
        _event({"index": 0, "delta": {"reasoning_content": "m"}}),
        _event({"index": 0, "delta": {"refusal": "no"}}),
    )
    message = answer["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"], message["refusal"]) == ("", "hmm", "no")


def test_an_error_event_is_remembered_and_ends_the_answer() -> None:
    assembler = AnswerAssembler(Api.CHAT_COMPLETIONS)
    assembler.feed(b'data: {"error":{"code":"stream_cut","message":"x"}}\n\n')
    assert assembler.error == {"code": "stream_cut", "message": "x"}


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b'"text"', b"\xff"])
def test_what_is_no_json_object_is_no_answer(data: bytes) -> None:
    with pytest.raises(InvalidAnswerError):
        AnswerAssembler(Api.CHAT_COMPLETIONS).feed(b"data: " + data + b"\n\n")
