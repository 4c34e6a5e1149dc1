"""What steers sampling is held to OpenAI's bounds, and refused in words of our own."""

import json

import msgspec
import pytest
from msgspec import Raw

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.engines.llamacpp_dialect import LlamaCppDialect
from hybridroute_serve.engines.llamacpp_sampling import check_sampling
from hybridroute_serve.wire.errors import InvalidRequest


def check(text: str) -> None:
    check_sampling(msgspec.json.decode(text, type=dict[str, Raw]))


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2.0},
        {"temperature": 2.0, "seed": -1, "stop": "\n", "logit_bias": {"7": -100, "50256": 0.5}},
        {"stop": ["a", "b", "c", "d"], "seed": 2**63 - 1, "top_k": 40},
        {"stop": [], "logit_bias": {}},
        {"temperature": None, "top_p": None, "stop": None, "seed": None, "logit_bias": None, "min_p": None},
    ],
)
def test_what_openai_takes_passes(fields: dict[str, object]) -> None:
    check(json.dumps(fields))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "99"),
        ("temperature", "-0.1"),
        ("temperature", "1e999"),
        ("temperature", '"hot"'),
        ("temperature", "true"),
        ("top_p", "5"),
        ("top_p", "-1"),
        ("presence_penalty", "1e9"),
        ("frequency_penalty", "-3"),
        ("seed", '"x"'),
        ("seed", "1.5"),
        ("seed", str(10**30)),
        ("stop", '{"a": 1}'),
        ("stop", '["a", "b", "c", "d", "e"]'),
        ("stop", '["a", 5]'),
        ("logit_bias", '"junk"'),
        ("logit_bias", '{"-7": 1}'),
        ("logit_bias", '{"7": 101}'),
    ],
)
def test_the_field_and_what_it_is_to_be_are_named(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest, match=f"Invalid '{name}': expected") as caught:
        check(f'{{"{name}": {value}}}')
    assert (caught.value.param, caught.value.code) == (name, ErrorCode.INVALID_REQUEST)


def test_samplers_of_the_engines_own_may_be_served_elsewhere() -> None:
    with pytest.raises(InvalidRequest, match="top_k") as caught:
        check('{"top_k": 1e999}')
    assert caught.value.code is ErrorCode.NOT_SERVED_BY_SLM


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Field 'n': [json.exception.type_error.302] type must be number, but is string", "'n' has a type"),
        ("[json.exception.out_of_range.406] number overflow parsing '1e999'", "A field of the request has"),
    ],
)
def test_what_the_engine_says_of_other_fields_is_said_in_our_words(said: str, told: str) -> None:
    body = json.dumps({"error": {"code": 400, "message": said, "type": "invalid_request_error"}})
    refusal = LlamaCppDialect().explain_refusal(400, body.encode())
    assert refusal is not None
    assert refusal.message.startswith(told)
    assert "json.exception" not in refusal.message


def test_the_dialect_checks_before_it_asks() -> None:
    with pytest.raises(InvalidRequest, match="top_p"):
        LlamaCppDialect().prepare_body(b'{"messages": [], "top_p": 5}', Api.CHAT_COMPLETIONS)
