"""What would hold up every request of an engine is refused by name; what is only long or strict is not."""

import json
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.engines.llamacpp_dialect import LlamaCppDialect
from hybridroute_serve.engines.llamacpp_grammar import explain_heavy_field
from hybridroute_serve.wire.errors import InvalidRequest


def answer_as(schema: object) -> dict[str, object]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


def explain(**fields: object) -> tuple[str, str] | None:
    return explain_heavy_field(msgspec.json.decode(json.dumps(fields), type=dict[str, Raw]))


HEAVY: list[tuple[str, Any]] = [
    ("response_format", answer_as({"enum": [f"v{number}" for number in range(600)]})),
    ("response_format", answer_as({"type": "string", "pattern": "^(a?){200}$"})),
    ("response_format", answer_as({"anyOf": [{"pattern": "^((a{0,9}){0,9})+$"}, {"type": "null"}]})),
    ("tools", [{"type": "function", "function": {"name": "f" * 16384}}]),
    ("tools", [{"type": "function", "function": {"name": "f", "parameters": {"pattern": "(a|b)*c"}}}]),
    ("logit_bias", {str(number): 1 for number in range(10_000)}),
    ("stop", ["x" * 5000]),
]


@pytest.mark.parametrize(("name", "value"), HEAVY)
def test_what_would_hold_everybody_up_is_named(name: str, value: object) -> None:
    explained = explain(**{name: value})
    assert explained is not None
    assert explained[0] == name
    assert f"'{name}'" in explained[1]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[A-Z]{3}-[0-9]+$"},
        {"type": "string", "pattern": "^(red|green)$", "maxLength": 1000},
        {"type": "object", "properties": {"pattern": {"type": "string"}}, "required": ["pattern"]},
        {"enum": [f"v{number}" for number in range(300)]},
    ],
)
def test_what_is_only_strict_passes(schema: object) -> None:
    assert explain(response_format=answer_as(schema), stop=["x"], logit_bias={"7": -100}) is None


@pytest.mark.parametrize(("plain", "escaped"), [(")", "\\u0029"), ("pattern", "p\\u0061ttern")])
def test_an_escape_hides_nothing(plain: str, escaped: str) -> None:
    body = json.dumps({"response_format": answer_as({"pattern": "(a)+"})}).replace(plain, escaped)
    assert explain_heavy_field(msgspec.json.decode(body, type=dict[str, Raw])) is not None


def test_a_number_that_nobody_can_read_is_no_failure_of_the_engine() -> None:
    fields = msgspec.json.decode(b'{"response_format":{"pattern":"a","minimum":1e999}}', type=dict[str, Raw])
    explained = explain_heavy_field(fields)
    assert explained is not None
    assert explained[0] == "response_format"


def test_the_dialect_refuses_it_as_not_served_here() -> None:
    body = json.dumps({"messages": [], "stop": ["x" * 5000]}).encode()
    with pytest.raises(InvalidRequest, match="'stop' up to 4096 bytes") as caught:
        LlamaCppDialect().prepare_body(body, Api.CHAT_COMPLETIONS)
    assert (caught.value.param, caught.value.code) == ("stop", ErrorCode.NOT_SERVED_BY_SLM)
