"""The bound holds whatever the text and its normal form, and what has none is named."""

import sys
import unicodedata
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.serving import TokenPrices
from hybridroute_api.vocabulary import Api
from hybridroute_serve.budgets.bounds import Bound, BoundTerms, Unbounded, bound_request

PRICES = TokenPrices(input_nano_usd_per_million=2_500_000_000, output_nano_usd_per_million=10_000_000_000)
TERMS = BoundTerms(output_cap_tokens=2_048)
HELLO: dict[str, Any] = {"model": "big", "messages": [{"role": "user", "content": "hello"}]}
FRAME_TOKENS = TERMS.template_tokens + TERMS.message_tokens


def bound(
    body: dict[str, Any], *, api: Api = Api.CHAT_COMPLETIONS, terms: BoundTerms = TERMS
) -> Bound | Unbounded:
    return bound_request(msgspec.json.encode(body), api, PRICES, terms)


def bounded(body: dict[str, Any], *, api: Api = Api.CHAT_COMPLETIONS, terms: BoundTerms = TERMS) -> Bound:
    result = bound(body, api=api, terms=terms)
    assert isinstance(result, Bound), result
    return result


def unbounded_at(body: dict[str, Any], *, api: Api = Api.CHAT_COMPLETIONS) -> str:
    result = bound(body, api=api)
    assert isinstance(result, Unbounded), result
    return result.parameter


def test_a_plain_request_costs_its_bytes_and_the_cap_at_list_price() -> None:
    prompt_tokens = len(msgspec.json.encode(HELLO)) + FRAME_TOKENS
    assert bounded(HELLO) == Bound(prompt_tokens, 2_048, prompt_tokens * 2_500 + 2_048 * 10_000)


def test_money_is_rounded_up() -> None:
    prices = TokenPrices(input_nano_usd_per_million=1, output_nano_usd_per_million=0)
    result = bound_request(msgspec.json.encode(HELLO), Api.CHAT_COMPLETIONS, prices, TERMS)
    assert isinstance(result, Bound)
    assert result.nano_usd == 1


def test_cached_tokens_that_cost_more_set_the_price() -> None:
    prices = TokenPrices(
        input_nano_usd_per_million=1_000_000,
        cached_input_nano_usd_per_million=2_000_000,
        output_nano_usd_per_million=0,
    )
    result = bound_request(msgspec.json.encode(HELLO), Api.CHAT_COMPLETIONS, prices, TERMS)
    assert isinstance(result, Bound)
    assert result.nano_usd == 2 * result.prompt_tokens


def test_reasoning_tokens_that_cost_more_set_the_price() -> None:
    prices = TokenPrices(
        input_nano_usd_per_million=0,
        output_nano_usd_per_million=1_000_000,
        reasoning_nano_usd_per_million=3_000_000,
    )
    result = bound_request(msgspec.json.encode(HELLO), Api.CHAT_COMPLETIONS, prices, TERMS)
    assert isinstance(result, Bound)
    assert result.nano_usd == 3 * result.output_tokens


@pytest.mark.parametrize(
    ("changes", "output_tokens"),
    [
        ({"max_tokens": 7}, 7),
        ({"max_completion_tokens": 9, "max_tokens": 7}, 9),
        ({"max_completion_tokens": 5, "max_tokens": 70}, 70),
        ({"max_tokens": None}, 2_048),
        ({"max_tokens": 10, "n": 3}, 30),
        ({"n": 2}, 4_096),
    ],
)
def test_output(changes: dict[str, Any], output_tokens: int) -> None:
    assert bounded(HELLO | changes).output_tokens == output_tokens


def test_reasoning_tokens_that_cost_more_set_the_price() -> None:
    prices = TokenPrices(
        input_nano_usd_per_million=0,
        output_nano_usd_per_million=1_000_000,
        reasoning_nano_usd_per_million=3_000_000,
    )
    result = bound_request(msgspec.json.encode(HELLO), Api.CHAT_COMPLETIONS, prices, TERMS)
    assert isinstance(result, Bound)
    assert result.nano_usd == 3 * result.output_tokens


@pytest.mark.parametrize(
    ("changes", "output_tokens"),
    [
        ({"prompt": "a"}, 10),
        ({"prompt": ["a", "b"]}, 20),
        ({"prompt": ["a", "b"], "n": 2, "best_of": 3}, 60),
        ({"prompt": [1, 2, 3]}, 10),
        ({"prompt": [[1, 2], [3]]}, 20),
        ({"prompt": "a", "echo": False}, 10),
    ],
)
def test_output_of_completions(changes: dict[str, Any], output_tokens: int) -> None:
    body = {"model": "big", "max_tokens": 10} | changes
    assert bounded(body, api=Api.COMPLETIONS).output_tokens == output_tokens


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "9", [1]])
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n", "best_of"])
def test_numbers_that_an_upstream_might_read_otherwise(name: str, value: object) -> None:
    assert unbounded_at(HELLO | {name: value}) == name


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}}, {"type": "code_interpreter"}]}, "tools[1].type"),
        ({"tools": [{"type": "file_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].type"),
        ({"tools": [{"type": "mcp", "server_url": "https://x"}]}, "tools[0].type"),
        ({"tools": [{"function": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {}, "cache_control": {}}]}, "tools[0].cache_control"),
        ({"tools": "all"}, "tools"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"previous_response_id": "r"}, "previous_response_id"),
        ({"conversation": "c"}, "conversation"),
        ({"store": True}, "store"),
        ({"store": 0}, "store"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"service_tier": "auto"}, "service_tier"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"echo": True}, "echo"),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "user", "content": "x", "cache_control": {}}]}, "messages[0].cache_control"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": "hello"}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": {}}]}]},
            "messages[0].content[0].cache_control",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_may_be_billed_besides_has_no_bound(changes: dict[str, Any], parameter: str) -> None:
    assert unbounded_at(HELLO | changes) == parameter


@pytest.mark.parametrize(
    "changes",
    [
        {
            "store": False,
            "service_tier": "default",
            "modalities": ["text"],
            "audio": None,
            "prediction": None,
        },
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto"},
        {"temperature": 0.2, "seed": 1, "stop": ["x"], "logprobs": True, "top_logprobs": 2, "user": "u"},
        {"stream": True, "stream_options": {"include_usage": True}, "reasoning_effort": "low"},
        {
            "messages": [
                {"role": "assistant", "content": None, "refusal": None, "audio": None, "annotations": []},
                {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]},
            ]
        },
    ],
)
def test_what_ordinary_clients_send_has_one(changes: dict[str, Any]) -> None:
    bounded(HELLO | changes)


def test_an_operator_can_list_more_parameters_as_free() -> None:
    terms = BoundTerms(output_cap_tokens=10, free_parameters=frozenset({"guided_json"}))
    bounded(HELLO | {"guided_json": {}}, terms=terms)


def test_images_are_bounded_where_their_cost_is_known() -> None:
    body = {
        "messages": [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x"}}] * 2}
        ]
    }
    terms = BoundTerms(output_cap_tokens=10, image_tokens=1_105)
    expected = len(msgspec.json.encode(body)) + FRAME_TOKENS + 2 * 1_105
    assert bounded(body, terms=terms).prompt_tokens == expected


def test_definitions_count_again_because_templates_print_them_indented() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    body = HELLO | {"tools": tools}
    extra = 2 * (len(msgspec.json.encode([tools])))
    assert bounded(body).prompt_tokens == len(msgspec.json.encode(body)) + FRAME_TOKENS + extra


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"a":' * 100_000])
def test_a_body_that_cannot_be_read_has_none(body: bytes) -> None:
    result = bound_request(body, Api.CHAT_COMPLETIONS, PRICES, TERMS)
    assert isinstance(result, Unbounded)
    assert result.parameter == "body"


def test_deep_nesting_has_an_answer() -> None:
    body = b'{"messages": [], "metadata": ' + b"[" * 900 + b'"\\u00e9"' + b"]" * 900 + b"}"
    assert isinstance(bound_request(body, Api.CHAT_COMPLETIONS, PRICES, TERMS), Bound | Unbounded)


@given(text=st.text(max_size=200), escape=st.booleans())
def test_no_normalisation_makes_more_bytes_than_the_bound(text: str, escape: bool) -> None:
    content = msgspec.json.encode(text)
    if escape:
        content = content.decode().encode("ascii", "backslashreplace").replace(b"\\x", b"\\u00")
        if b"\\U" in content:
            return
    body = b'{"messages":[{"role":"user","content":' + content + b"}]}"
    result = bound_request(body, Api.CHAT_COMPLETIONS, PRICES, TERMS)
    assert isinstance(result, Bound)
    longest = max(len(unicodedata.normalize(form, text).encode()) for form in ("NFC", "NFD", "NFKC", "NFKD"))
    assert result.prompt_tokens >= longest + FRAME_TOKENS


def test_composed_forms_are_never_longer_than_decomposed_ones() -> None:
    for point in range(sys.maxunicode + 1):
        if 0xD800 <= point <= 0xDFFF:
            continue
        character = chr(point)
        composed = len(unicodedata.normalize("NFKC", character).encode())
        decomposed = len(unicodedata.normalize("NFKD", character).encode())
        assert composed <= max(decomposed, len(character.encode()))
