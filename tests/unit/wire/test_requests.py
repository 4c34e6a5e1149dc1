"""What is read from request bodies, and what is said about those that cannot be read."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.wire.errors import InvalidRequest
from hybridroute_serve.wire.requests import ParsedRequest, parse_request

USER = {"role": "user", "content": "hello"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


def parse_chat(**fields: Any) -> ParsedRequest:
    body = {"model": "hybridroute", "messages": [USER], **fields}
    return parse_request(json.dumps(body).encode(), Api.CHAT_COMPLETIONS)


def parse_completion(**fields: Any) -> ParsedRequest:
    body = {"model": "hybridroute", "prompt": "hello", **fields}
    return parse_request(json.dumps(body).encode(), Api.COMPLETIONS)


def refusal(body: bytes, api: Api = Api.CHAT_COMPLETIONS) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse_request(body, api)
    return caught.value


def test_a_plain_request() -> None:
    parsed = parse_chat()

    assert parsed.model == "hybridroute"
    assert parsed.routing_text == "hello"
    assert not parsed.stream
    assert not parsed.include_usage
    assert not parsed.offers_tools
    assert parsed.choices == 1
    assert parsed.max_output_tokens is None
    assert parsed.response_format is None
    assert parsed.conversation_key is None
    assert parsed.next_conversation_key is None
    assert parsed.prompt_bytes == 5


def test_what_a_request_asks_for() -> None:
    parsed = parse_chat(
        stream=True,
        stream_options={"include_usage": True},
        n=3,
        max_tokens=7,
        max_completion_tokens=9,
        logprobs=True,
        response_format={"type": "json_schema", "json_schema": {"name": "x"}},
        tools=TOOLS,
    )

    assert parsed.stream
    assert parsed.include_usage
    assert parsed.choices == 3
    assert parsed.max_output_tokens == 9
    assert parsed.logprobs
    assert parsed.response_format == "json_schema"
    assert parsed.offers_tools


@pytest.mark.parametrize("listed", [0, 20])
def test_as_many_alternatives_as_openai_lists(listed: int) -> None:
    assert parse_chat(logprobs=True, top_logprobs=listed).logprobs
    assert parse_completion(logprobs=listed).logprobs


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"echo": "yes"}, "echo"),
        ({"suffix": 1}, "suffix"),
    ],
)
def test_the_wrong_field_of_completions_is_named(fields: dict[str, Any], param: str) -> None:
    error = refusal(json.dumps({"model": "m", "prompt": "x", **fields}).encode(), Api.COMPLETIONS)

    assert (error.param, error.code) == (param, ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize(
    ("fields", "spoken"),
    [
        ({"modalities": ["text", "audio"]}, True),
        ({"audio": {"voice": "alloy", "format": "wav"}}, True),
        ({"modalities": ["text"]}, False),
        ({"modalities": None, "audio": None}, False),
    ],
)
def test_whether_the_answer_is_to_be_spoken(fields: dict[str, Any], spoken: bool) -> None:
    assert parse_chat(**fields).audio_answer is spoken


def test_whether_the_answer_is_to_be_looked_up() -> None:
    assert parse_chat(web_search_options={}).web_search
    assert not parse_chat(web_search_options=None).web_search


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"logprobs": 0}, {"logprobs"}),
        ({"echo": True, "suffix": "!", "best_of": 2}, {"echo", "suffix", "best_of"}),
        ({"logprobs": None, "echo": False, "suffix": "", "best_of": 1}, set()),
        ({}, set()),
    ],
)
def test_options_that_only_completions_have(fields: dict[str, Any], options: set[str]) -> None:
    assert parse_completion(**fields).completion_options == options


def test_usage_can_only_be_asked_for_in_a_stream() -> None:
    assert not parse_chat(stream_options={"include_usage": True}).include_usage


def test_content_parts() -> None:
    parsed = parse_chat(
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "what is"},
                    {"type": "image_url", "image_url": {"url": "data:"}},
                    {"type": "text", "text": "this"},
                    {"type": "input_audio", "input_audio": {}},
                ],
            }
        ]
    )

    assert parsed.routing_text == "what is\nthis"
    assert parsed.non_text_parts == {"image_url", "input_audio"}
    assert parsed.estimated_prompt_tokens > 2 * 500


def test_the_last_user_message_is_what_is_routed_by() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "answer"},
        {"role": "user", "content": "second"},
        {"role": "assistant", "content": "prefill"},
    ]

    assert parse_chat(messages=messages).routing_text == "second"
    assert parse_chat(messages=messages[:1]).routing_text == ""


def test_unknown_fields_pass() -> None:
    assert parse_chat(top_k=3, messages=[{**USER, "cache_control": {"type": "ephemeral"}}], future={"a": [1]})


@pytest.mark.parametrize(
    ("prompt", "choices", "tokens", "text"),
    [
        ("abcd", 2, 1, "abcd"),
        (["abcd", "efghi"], 4, 3, "efghi"),
        ([1, 2, 3], 2, 3, ""),
        ([[1], [2, 3]], 4, 3, ""),
    ],
)
def test_prompts_of_completions(prompt: object, choices: int, tokens: int, text: str) -> None:
    parsed = parse_completion(prompt=prompt, n=2)

    assert parsed.choices == choices
    assert parsed.estimated_prompt_tokens == tokens
    assert parsed.routing_text == text


@pytest.mark.parametrize("prompt", [["a", 1], [[1], "a"], [True], [{}], [], 3, None, [[1.5]]])
def test_prompts_that_cannot_be_read(prompt: object) -> None:
    body = json.dumps({"model": "m", "prompt": prompt}).encode()

    assert refusal(body, Api.COMPLETIONS).param == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [USER, 1]}, "messages[1]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"stream_options": {"include_usage": "x"}}, "stream_options.include_usage"),
        ({"n": 0}, "n"),
        ({"n": "2"}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"tools": {}}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format.type"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"top_logprobs": 49152}, "top_logprobs"),
        ({"top_logprobs": -1}, "top_logprobs"),
        ({"modalities": "audio"}, "modalities"),
        ({"audio": "alloy"}, "audio"),
        ({"web_search_options": True}, "web_search_options"),
    ],
)
def test_the_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    body = json.dumps({"model": "m", "messages": [USER], **fields}).encode()

    error = refusal(body)

    assert error.param == param
    assert param in error.message
    assert error.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"not json",
        b"\xff\xfe",
        b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}]} x',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_what_is_not_json(body: bytes) -> None:
    error = refusal(body)

    assert error.param is None
    assert error.code == ErrorCode.INVALID_JSON


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"3", b"null"])
def test_what_is_not_an_object(body: bytes) -> None:
    assert refusal(body).code == ErrorCode.INVALID_REQUEST


def test_deep_nesting_in_what_is_hashed() -> None:
    deep = b'{"model":"m","tools":[{}],"messages":[{"role":"user","content":"x","x":%s}]}'
    body = deep % (b"[" * 900 + b"]" * 900)

    parsed = parse_request(body, Api.CHAT_COMPLETIONS)

    assert parsed.next_conversation_key


def test_a_tool_result_finds_the_turn_that_made_its_call() -> None:
    first = [{"role": "system", "content": "s"}, USER]
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    call_again = {"role": "assistant", "tool_calls": [CALL]}

    asked = parse_chat(messages=first, tools=TOOLS)
    answered = parse_chat(messages=[*first, call, result, result], tools=TOOLS)
    answered_again = parse_chat(messages=[*first, call, result, result, call_again, result])

    assert asked.conversation_key is None
    assert answered.has_tool_results
    assert answered.conversation_key == asked.next_conversation_key
    assert answered_again.conversation_key == answered.next_conversation_key
    assert answered_again.next_conversation_key is None


def test_a_turn_after_a_finished_tool_call_is_free_again() -> None:
    call = {"role": "assistant", "tool_calls": [CALL]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    done = {"role": "assistant", "content": "It is 42."}

    parsed = parse_chat(messages=[USER, call, result, done, USER], tools=TOOLS)

    assert not parsed.has_tool_results
    assert parsed.conversation_key is None


def test_a_tool_result_without_a_call_has_no_conversation() -> None:
    parsed = parse_chat(messages=[USER, {"role": "tool", "content": "42"}])

    assert parsed.has_tool_results
    assert parsed.conversation_key is None


def test_keys_do_not_depend_on_spelling_but_on_content() -> None:
    plain = b'{"model":"m","tools":[{}],"messages":[{"role":"user","content":"hi"}]}'
    spelled = (
        b'{"tools": [{}], "messages": [ {"content": "\\u0068i", "name": null, "role":"user"} ], "model":"x"}'
    )
    other = b'{"model":"m","tools":[{}],"messages":[{"role":"user","content":"ho"}]}'

    keys = [
        parse_request(body, Api.CHAT_COMPLETIONS).next_conversation_key for body in (plain, spelled, other)
    ]

    assert keys[0] == keys[1]
    assert keys[0] != keys[2]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("a", 1, 1),
        ("word " * 1000, 1000, 1300),
        ("漢字" * 500, 900, 1200),
        ("привет " * 100, 300, 500),
    ],
)
def test_token_estimates_are_near_what_tokenizers_say(text: str, least: int, most: int) -> None:
    parsed = parse_completion(prompt=text)

    assert least <= parsed.estimated_prompt_tokens <= most


def test_what_is_no_utf_8_is_refused_wherever_it_stands() -> None:
    body = b'{"model": "hybridroute", "messages": [{"role": "user", "content": "x"}], "user": "\xff"}'
    assert refusal(body).code is ErrorCode.INVALID_JSON


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": "x"}]}, "messages[1].tool_calls"),
        ({"messages": [USER, {"role": "assistant", "tool_calls": ["x"]}]}, "messages[1].tool_calls[0]"),
        ({"messages": [USER | {"name": 5}]}, "messages[0].name"),
        (
            {"messages": [USER, {"role": "tool", "tool_call_id": 5, "content": "x"}]},
            "messages[1].tool_call_id",
        ),
        ({"messages": [USER], "tools": [TOOLS[0], 5]}, "tools[1]"),
        ({"messages": [USER], "functions": [None]}, "functions[0]"),
    ],
)
def test_a_part_of_the_wrong_shape_is_named(fields: dict[str, Any], field: str) -> None:
    refused = refusal(json.dumps({"model": "hybridroute", **fields}).encode())
    assert refused.param == field
    assert field in str(refused)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"messages": [USER] * 2049}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2049}]}, "content"),
        ({"messages": [USER], "tools": [TOOLS[0]] * 2049}, "tools"),
    ],
)
def test_more_items_than_openai_takes_are_refused(fields: dict[str, Any], field: str) -> None:
    refused = refusal(json.dumps({"model": "hybridroute", **fields}).encode())
    assert refused.param is not None
    assert refused.param.endswith(field)
    assert "2048" in refused.message


@pytest.mark.parametrize(("prompt", "most"), [(["a"] * 2049, "2048"), ([7] * 1_000_001, "1000000")])
def test_more_prompts_or_tokens_than_anyone_serves_are_refused(prompt: list[Any], most: str) -> None:
    refused = refusal(json.dumps({"model": "hybridroute", "prompt": prompt}).encode(), Api.COMPLETIONS)
    assert refused.param == "prompt"
    assert most in refused.message


def test_a_long_token_array_is_one_prompt() -> None:
    assert parse_completion(prompt=[7] * 100_000).choices == 1


def test_tools_and_tool_calls_count_as_prompt() -> None:
    plain = parse_chat()
    tooled = parse_chat(tools=[{"type": "function", "function": {"name": "f", "description": "x" * 400}}])

    assert tooled.estimated_prompt_tokens > plain.estimated_prompt_tokens + 100


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "model",
                "messages",
                "stream",
                "stream_options",
                "n",
                "max_tokens",
                "tools",
                "prompt",
                "logprobs",
            ]
        ),
        json_values,
    ),
    st.sampled_from(Api),
)
def test_any_json_is_read_or_refused(document: dict[str, Any], api: Api) -> None:
    with suppress(InvalidRequest):
        parsed = parse_request(json.dumps(document).encode(), api)
        assert parsed.model == document["model"]


@given(st.binary(max_size=200), st.sampled_from(Api))
def test_any_bytes_are_read_or_refused(body: bytes, api: Api) -> None:
    with pytest.raises(InvalidRequest):
        parse_request(body, api)
