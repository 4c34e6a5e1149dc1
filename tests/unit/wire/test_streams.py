"""Streams in chunks of any size: what is held, what passes, and what is noted on the way."""

import json
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.records import TokenUsage
from hybridroute_api.vocabulary import UsageSource
from hybridroute_serve.wire.answers import InvalidAnswerError, parse_answer, parse_event
from hybridroute_serve.wire.sse import EventSplitter, event_data, split_events
from hybridroute_serve.wire.streams import StreamFilter
from support.upstream import DONE, content_event, event, finish_event, role_event, usage_event

LIMIT = 4 * 1024 * 1024
COMMENT = b": keep-alive\n\n"
CONTENT = content_event("x")
ERROR = event({"error": {"message": "overloaded"}})


@dataclass
class Passed:
    """What came out of a filter, and the filter."""

    stream: StreamFilter
    body: bytes


def pass_chunks(*chunks: bytes, hide_usage: bool = False) -> Passed:
    stream = StreamFilter(hide_usage=hide_usage, max_held_bytes=LIMIT)
    pieces = [stream.feed(chunk) for chunk in chunks]
    pieces.append(stream.end())
    return Passed(stream, b"".join(pieces))


def cut(body: bytes, borders: list[int]) -> list[bytes]:
    marks = [0, *sorted(border % (len(body) + 1) for border in borders), len(body)]
    return [body[start:end] for start, end in pairwise(marks)]


events = st.sampled_from(
    [
        COMMENT,
        role_event(),
        content_event("Hello"),
        content_event('a "prompt_tokens" and an "error" and [DONE]'),
        content_event("é漢\u2028"),
        finish_event(),
        usage_event(),
        usage_event(7, 3, prompt_tokens_details={"cached_tokens": 4}),
        b"event: message\ndata: {\ndata: }\n\n",
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    body = b"".join(draw(st.lists(events, max_size=8)))
    body += draw(
        st.sampled_from([b"", DONE, ERROR, DONE + role_event(), b"data: [DONE]", CONTENT + b"data: {"])
    )
    line_end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    return body.replace(b"\n", line_end)


@given(streams(), st.lists(st.integers(min_value=0, max_value=10_000), max_size=12), st.booleans())
def test_chunking_changes_nothing(body: bytes, borders: list[int], hide_usage: bool) -> None:
    whole = pass_chunks(body, hide_usage=hide_usage)
    pieces = pass_chunks(*cut(body, borders), hide_usage=hide_usage)
    bytewise = pass_chunks(*(body[i : i + 1] for i in range(len(body))), hide_usage=hide_usage)

    for other in (pieces, bytewise):
        assert other.body == whole.body
        assert other.stream.committed == whole.stream.committed
        assert other.stream.usage == whole.stream.usage
        assert other.stream.failed == whole.stream.failed
        assert other.stream.done == whole.stream.done
        assert other.stream.complete == whole.stream.complete


@given(
    st.lists(st.binary(max_size=30).filter(lambda data: not set(data) & set(b"\r\n")), max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(min_value=0, max_value=1000), max_size=10),
)
def test_the_splitter_finds_every_event(payloads: list[bytes], line_end: bytes, borders: list[int]) -> None:
    body = b"".join(b"data: " + payload + line_end * 2 for payload in payloads)
    splitter = EventSplitter()

    blocks = [splitter.feed(chunk) for chunk in cut(body, borders)]
    blocks.append(splitter.take_rest())

    found = [event_data(one) for block in blocks for one in split_events(block)]
    assert found == payloads


def test_a_mebibyte_in_one_event_and_in_small_pieces() -> None:
    big = content_event("x" * (1 << 20))
    body = role_event() + big + finish_event() + DONE

    at_once = pass_chunks(body)
    in_pieces = pass_chunks(*(body[i : i + 1000] for i in range(0, len(body), 1000)))

    assert at_once.body == in_pieces.body == body
    assert at_once.stream.estimate_completion_tokens() > 200_000


def test_nothing_is_released_before_content() -> None:
    stream = StreamFilter(hide_usage=True, max_held_bytes=LIMIT)

    assert stream.feed(COMMENT) == b""
    assert stream.feed(role_event()) == b""
    assert not stream.committed
    assert stream.feed(content_event("Hi")) == COMMENT + role_event() + content_event("Hi")
    assert stream.committed


@pytest.mark.parametrize(
    "choice",
    [
        {"delta": {"content": "x"}},
        {"delta": {"role": "assistant", "tool_calls": [{"index": 0, "id": "c"}]}},
        {"delta": {"function_call": {"name": "f"}}},
        {"delta": {"refusal": "No."}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"reasoning": "hm"}},
        {"text": "x"},
        {"delta": {}, "finish_reason": "content_filter"},
    ],
)
def test_what_commits(choice: dict[str, object]) -> None:
    assert pass_chunks(event({"choices": [choice]})).stream.committed


@pytest.mark.parametrize(
    "document",
    [
        {"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]},
        {"choices": [{"delta": {"role": "assistant", "content": "", "tool_calls": None, "refusal": None}}]},
        {"choices": [], "prompt_filter_results": [{}]},
        {"choices": [{"text": ""}]},
        {"choices": None},
        {"choices": [{"delta": None}]},
        {},
    ],
)
def test_what_does_not_commit(document: object) -> None:
    passed = pass_chunks(event(document))

    assert not passed.stream.committed
    assert passed.body == b""


def test_an_error_before_content() -> None:
    passed = pass_chunks(role_event(), ERROR)

    assert passed.stream.failed
    assert not passed.stream.committed
    assert passed.body == b""


def test_an_error_after_content_is_the_last_thing_that_passes() -> None:
    passed = pass_chunks(CONTENT, content_event("y") + ERROR + content_event("z") + DONE)

    assert passed.stream.failed
    assert passed.body == CONTENT + content_event("y") + ERROR


def test_vllms_old_error_object() -> None:
    passed = pass_chunks(event({"object": "error", "message": "x", "code": 400}))

    assert passed.stream.failed


def test_garbage_before_content() -> None:
    with pytest.raises(InvalidAnswerError):
        pass_chunks(b"data: <html>\n\n")


def test_garbage_after_content_passes() -> None:
    garbage = b'data: {"error" oh\n\n'

    assert pass_chunks(CONTENT, garbage).body == CONTENT + garbage


def test_a_stream_that_never_says_anything_is_given_up() -> None:
    stream = StreamFilter(hide_usage=False, max_held_bytes=1000)

    held = [stream.feed(COMMENT) for _ in range(1000 // len(COMMENT))]

    assert set(held) == {b""}
    with pytest.raises(InvalidAnswerError):
        stream.feed(COMMENT)


def test_the_usage_chunk_is_hidden_unless_asked_for() -> None:
    chunks = (CONTENT, finish_event(), usage_event(5, 2), DONE)

    hidden = pass_chunks(*chunks, hide_usage=True)
    shown = pass_chunks(*chunks, hide_usage=False)

    assert hidden.body == CONTENT + finish_event() + DONE
    assert shown.body == b"".join(chunks)
    assert hidden.stream.usage == shown.stream.usage == TokenUsage(5, 2, source=UsageSource.REPORTED)


def test_usage_beside_choices_is_never_hidden() -> None:
    last = event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 5}})

    passed = pass_chunks(CONTENT, last, DONE, hide_usage=True)

    assert passed.body == CONTENT + last + DONE
    assert passed.stream.usage == TokenUsage(5, 0, source=UsageSource.REPORTED)


def test_the_last_usage_counts() -> None:
    assert pass_chunks(usage_event(5, 0), CONTENT, usage_event(5, 9)).stream.usage == TokenUsage(
        5, 9, source=UsageSource.REPORTED
    )


def test_details_of_usage() -> None:
    facts = parse_event(
        usage_event(
            10,
            6,
            prompt_tokens_details={"cached_tokens": 4},
            completion_tokens_details={"reasoning_tokens": 5},
        )
    )

    assert facts.usage == TokenUsage(10, 6, 4, 5, UsageSource.REPORTED)


@pytest.mark.parametrize(
    "usage",
    [None, 3, [], {}, {"prompt_tokens": None}, {"prompt_tokens": "5"}, {"completion_tokens": 3}],
)
def test_usage_without_counts(usage: object) -> None:
    assert parse_event(event({"choices": [], "usage": usage})).usage is None


@pytest.mark.parametrize(
    "counts",
    [
        {"prompt_tokens": -5, "completion_tokens": 3},
        {"prompt_tokens": 5, "completion_tokens": -1},
        {"prompt_tokens": 5, "completion_tokens": "3"},
        {"prompt_tokens": 10**9 + 1, "completion_tokens": 3},
        {"prompt_tokens": 10**30, "completion_tokens": 3},
        {"prompt_tokens": 5, "completion_tokens": 10**30},
        {"prompt_tokens": 5.0, "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
    ],
)
def test_absurd_counts_are_as_good_as_none(counts: dict[str, object]) -> None:
    absurd = event({"choices": [], "usage": counts})

    assert parse_event(absurd).usage is None
    assert pass_chunks(CONTENT, finish_event(), absurd, DONE, hide_usage=True).body == (
        CONTENT + finish_event() + DONE
    )


@pytest.mark.parametrize(
    ("details", "cached", "reasoning"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 11}}, 10, 0),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": 10**30}}, 0, 0),
        ({"prompt_tokens_details": {"cached_tokens": "4"}}, 0, 0),
        ({"prompt_tokens_details": 3, "completion_tokens_details": []}, 0, 0),
        ({"completion_tokens_details": {"reasoning_tokens": 7}}, 0, 6),
    ],
)
def test_an_absurd_detail_spoils_nothing_else(
    details: dict[str, object], cached: int, reasoning: int
) -> None:
    usage = parse_event(usage_event(10, 6, **details)).usage

    assert usage == TokenUsage(10, 6, cached, reasoning, UsageSource.REPORTED)


@pytest.mark.parametrize("choices", [None, [], {}, "x", [1]])
def test_a_whole_answer_has_choices(choices: object) -> None:
    with pytest.raises(InvalidAnswerError, match="no choices"):
        parse_answer(json.dumps({"id": "x", "choices": choices, "usage": {"prompt_tokens": 1}}).encode())
    assert parse_answer(b'{"error":{"message":"x"}}').failed


@pytest.mark.parametrize(
    ("chunks", "complete"),
    [
        ((CONTENT, DONE), True),
        ((CONTENT, finish_event()), True),
        ((CONTENT, finish_event(), usage_event()), True),
        ((CONTENT + finish_event(),), True),
        ((CONTENT,), False),
        ((CONTENT, content_event("finish_reason stop")), False),
    ],
)
def test_whether_a_stream_had_its_end(chunks: tuple[bytes, ...], complete: bool) -> None:
    assert pass_chunks(*chunks).stream.complete is complete


def test_completion_tokens_are_estimated_from_events_and_bytes() -> None:
    small = pass_chunks(role_event(), *(content_event(f" w{i}") for i in range(50)))
    large = pass_chunks(role_event(), *(content_event("word " * 40) for _ in range(10)))

    assert 50 <= small.stream.estimate_completion_tokens() <= 52
    assert 450 <= large.stream.estimate_completion_tokens() <= 550


def test_an_incomplete_event_never_passes() -> None:
    passed = pass_chunks(CONTENT + content_event("y")[:20])

    assert passed.body == CONTENT
    assert not passed.stream.complete


def test_an_end_without_its_blank_line_passes() -> None:
    passed = pass_chunks(CONTENT, b"data: [DONE]")

    assert passed.body == CONTENT + DONE
    assert passed.stream.complete
