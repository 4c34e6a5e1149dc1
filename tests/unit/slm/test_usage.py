"""One usage chunk for the client, and the sum over all choices for the record."""

import json
from typing import Any

import pytest

from hybridroute_api.vocabulary import Api, UsageSource
from hybridroute_serve.slm.usage import UsageTally
from hybridroute_serve.wire.sse import event_data, split_events

DONE = b"data: [DONE]\n\n"


def _event(**chunk: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c-1", "model": "m", **chunk}).encode() + b"\n\n"


def _usage(prompt: int, completion: int, cached: int = 0) -> dict[str, Any]:
    details = {"cached_tokens": cached}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}


def _chunks(block: bytes) -> list[Any]:
    data = [event_data(event) for event in split_events(block)]
    return [json.loads(one) for one in data if one is not None and one != b"[DONE]"]


CONTENT = _event(choices=[{"index": 0, "delta": {"content": "a"}}])


def test_a_stream_without_usage_passes_as_it_is() -> None:
    tally = UsageTally(Api.CHAT_COMPLETIONS, emit=True)
    assert tally.pass_events(CONTENT) is CONTENT
    assert tally.pass_events(DONE) == DONE
    assert tally.total is None


@pytest.mark.parametrize("emit", [True, False])
def test_the_client_sees_the_sum_only_when_it_asked(emit: bool) -> None:
    tally = UsageTally(Api.CHAT_COMPLETIONS, emit=emit)
    block = (
        CONTENT
        + _event(choices=[], usage=_usage(30, 4, cached=20))
        + _event(choices=[], usage=_usage(30, 6, cached=29))
        + DONE
    )
    passed = tally.pass_events(block)
    assert passed.endswith(DONE)
    said = [chunk["usage"] for chunk in _chunks(passed) if "usage" in chunk]
    summed = {
        "prompt_tokens": 30,
        "completion_tokens": 10,
        "total_tokens": 40,
        "prompt_tokens_details": {"cached_tokens": 29},
    }
    assert said == ([summed] if emit else [])


def test_the_sums_chunk_belongs_to_its_stream() -> None:
    tally = UsageTally(Api.CHAT_COMPLETIONS, emit=True)
    passed = tally.pass_events(_event(choices=[], object="chat.completion.chunk", usage=_usage(1, 1)) + DONE)
    (chunk,) = _chunks(passed)
    assert (chunk["id"], chunk["model"], chunk["object"]) == ("c-1", "m", "chat.completion.chunk")
    assert chunk["choices"] == []


def test_the_choices_of_a_chat_share_their_prompt_and_completions_do_not() -> None:
    totals = []
    for api in Api:
        tally = UsageTally(api, emit=False)
        for prompt in (10, 12):
            tally.pass_events(_event(choices=[], usage=_usage(prompt, 3)))
        assert tally.total is not None
        assert tally.total.source is UsageSource.REPORTED
        totals.append((api, tally.total.prompt_tokens, tally.total.completion_tokens))
    assert totals == [(Api.CHAT_COMPLETIONS, 12, 6), (Api.COMPLETIONS, 22, 6)]


def test_a_last_chunk_with_usage_keeps_its_choice() -> None:
    tally = UsageTally(Api.COMPLETIONS, emit=False)
    last = {"index": 1, "text": "", "finish_reason": "length"}
    (chunk,) = _chunks(tally.pass_events(_event(choices=[last], usage=_usage(2, 3))))
    assert chunk["choices"] == [last]
    assert "usage" not in chunk


@pytest.mark.parametrize(
    "text",
    ['say "prompt_tokens" please', "[DONE]", '{"usage":{"prompt_tokens":1}}'],
)
def test_text_that_looks_like_usage_is_text(text: str) -> None:
    tally = UsageTally(Api.CHAT_COMPLETIONS, emit=True)
    event = _event(choices=[{"index": 0, "delta": {"content": text}}])
    assert tally.pass_events(event) == event
    assert tally.total is None


def test_an_event_that_is_no_json_passes() -> None:
    tally = UsageTally(Api.CHAT_COMPLETIONS, emit=True)
    broken = b'data: {"prompt_tokens": \n\n'
    assert tally.pass_events(broken) == broken
