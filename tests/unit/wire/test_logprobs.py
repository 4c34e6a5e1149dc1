"""Logprobs are asked for, read, and taken out again without a trace."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.wire.logprobs import NULL, ask_for_alternatives, take_margins

TEXTS = st.text(max_size=20)


def compact(document: Any) -> bytes:
    return msgspec.json.encode(document)


def told(*tokens: list[float | None]) -> dict[str, Any]:
    return {
        "content": [
            {"token": "a", "logprob": -0.1, "top_logprobs": [{"token": "b", "logprob": one} for one in token]}
            for token in tokens
        ]
    }


def chunk(text: str, **choice: Any) -> dict[str, Any]:
    return {
        "choices": [{"finish_reason": None, "index": 0, "delta": {"content": text}, **choice}],
        "id": "c",
        "n": 1,
    }


def test_the_rest_of_a_body_stays_as_it_was() -> None:
    body = b'{"model":"m","messages":[{"role": "user",  "content":"x"}],"temperature":1.0,"logprobs":false}'
    asked = ask_for_alternatives(body)
    assert b'[{"role": "user",  "content":"x"}]' in asked
    assert b'"temperature":1.0' in asked
    assert json.loads(asked)["logprobs"] is True
    assert json.loads(asked)["top_logprobs"] == 3


@pytest.mark.parametrize(
    ("alternatives", "margin"),
    [
        ([math.log(0.7), math.log(0.2), math.log(0.1)], 0.5),
        # As vLLM lists them: the token that was drawn comes first, and was not among the likeliest.
        ([math.log(0.01), math.log(0.6), math.log(0.3)], 0.3),
        ([0.0, None, None], 1.0),
        ([0.0, -9999.0], 1.0),
        ([math.log(0.5), math.log(0.5)], 0.0),
    ],
)
def test_a_margin_is_the_distance_between_the_two_likeliest(
    alternatives: list[float | None], margin: float
) -> None:
    found = take_margins(compact(chunk("a", logprobs=told(alternatives))), hide=False, bare=None)
    assert found.margins == (pytest.approx(margin),)
    assert found.tokens == 1


@pytest.mark.parametrize("alternatives", [[], [-0.1]])
def test_one_alternative_says_nothing(alternatives: list[float | None]) -> None:
    found = take_margins(compact(chunk("a", logprobs=told(alternatives))), hide=False, bare=None)
    assert (found.margins, found.tokens) == ((), 1)


@given(TEXTS, st.lists(st.floats(-50, 0), min_size=2, max_size=5), st.booleans(), TEXTS)
def test_what_is_left_is_what_would_have_come(
    text: str, alternatives: list[float], has_field: bool, other: str
) -> None:
    bare = NULL if has_field else None
    empty: dict[str, Any] = {"logprobs": None} if has_field else {}
    plain = chunk(text, **empty) | {"system_fingerprint": other, "big": 10**30}
    asked = chunk(text, logprobs=told(alternatives)) | {"system_fingerprint": other, "big": 10**30}
    encoded = json.dumps(asked, separators=(",", ":"), ensure_ascii=False).encode()
    found = take_margins(encoded, hide=True, bare=bare)
    assert found.document == json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()
    assert 0.0 <= found.margins[0] <= 1.0


@pytest.mark.parametrize(
    "document",
    [
        b'{"choices": [ {"logprobs" : null} ]}',
        b'{"choices":[{"delta":{"content":"\\"logprobs\\""}}]}',
        b'{"logprobs":',
        b'{"choices":[{"logprobs":7}]}',
        b'{"choices":{"logprobs":{}}}',
        b"[DONE]",
    ],
)
def test_what_tells_nothing_passes_byte_by_byte(document: bytes) -> None:
    found = take_margins(document, hide=True, bare=None)
    assert (found.document, found.margins, found.tokens) == (document, (), 0)


def test_logprobs_of_the_clients_own_asking_stay() -> None:
    document = compact(chunk("a", logprobs=told([-0.1, -2.0])))
    assert take_margins(document, hide=False, bare=None).document == document
