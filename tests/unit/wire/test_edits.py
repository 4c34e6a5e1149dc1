"""The edits change what they name and nothing else."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.wire.edits import edit_body


def raw_fields(body: bytes) -> dict[str, bytes]:
    return {
        key: bytes(value) for key, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()
    }


def test_values_keep_their_bytes_and_order() -> None:
    body = b'{"z": [1 , 2.50, 1e3],"model":"hybridroute", "messages" : [{"role":"user"}], "a":"\\u00e9"}'

    edited = edit_body(body, model="big", inject_usage=False, cap_output=None)

    assert edited == b'{"z":[1 , 2.50, 1e3],"model":"big","messages":[{"role":"user"}],"a":"\\u00e9"}'


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (None, b'{"include_usage":true}'),
        (b"null", b'{"include_usage":true}'),
        (b'{"include_usage":false,"x": 1.0}', b'{"include_usage":true,"x":1.0}'),
    ],
)
def test_usage_is_asked_for_beside_other_stream_options(options: bytes | None, expected: bytes) -> None:
    body = b'{"stream":true}' if options is None else b'{"stream":true,"stream_options":%s}' % options

    edited = edit_body(body, model=None, inject_usage=True, cap_output=None)

    assert raw_fields(edited)["stream_options"] == expected


@pytest.mark.parametrize(
    ("given_cap", "expected"),
    [
        ({}, {"max_tokens": 256}),
        ({"max_tokens": None}, {"max_tokens": 256}),
        ({"max_completion_tokens": None}, {"max_tokens": 256}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 5000}, {"max_completion_tokens": 5000}),
    ],
)
def test_a_cap_is_added_only_where_there_is_none(
    given_cap: dict[str, int | None], expected: dict[str, int]
) -> None:
    edited = edit_body(
        json.dumps(given_cap).encode(), model=None, inject_usage=False, cap_output=("max_tokens", 256)
    )

    assert json.loads(edited) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
separators = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", " :\r\n ")])


@given(
    st.dictionaries(st.text(), json_values, max_size=6),
    separators,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_all_other_fields_are_byte_identical(
    document: dict[str, Any], spacing: tuple[str, str], ascii_only: bool, inject: bool, cap: bool
) -> None:
    document = {**document, "model": "hybridroute"}
    body = json.dumps(document, separators=spacing, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    try:
        before = raw_fields(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return  # lone surrogates: refused by the parser before any edit

    edited = edit_body(body, model="big", inject_usage=inject, cap_output=("max_tokens", 9) if cap else None)

    after = raw_fields(edited)
    edits = {"model", "stream_options", "max_tokens", "max_completion_tokens"}
    assert {k: v for k, v in after.items() if k not in edits} == {
        k: v for k, v in before.items() if k not in edits
    }
    assert after["model"] == b'"big"'
