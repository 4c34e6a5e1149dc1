"""Which changes of a route void the promise."""

import pytest

from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.validity import changed_weights, digest_prompt, void_reasons
from support.artifacts import certified as with_promise
from support.artifacts import recertified


def test_the_models_it_was_made_with_keep_it(certified: bytes) -> None:
    assert void_reasons(decode_artifact(certified).header, {"slm": "abc"}) == ()


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        ({"slm": "def"}, "slm was abc when the promise was certified and is def"),
        ({}, "slm was abc when the promise was certified and is absent"),
        ({"slm": "abc", "adapter": "lora"}, "adapter was absent when the promise was certified and is lora"),
    ],
)
def test_any_difference_voids_it_and_is_named(certified: bytes, models: dict[str, str], reason: str) -> None:
    assert void_reasons(decode_artifact(certified).header, models) == (reason,)


def test_without_a_promise_there_is_none_to_keep(labels_only: bytes) -> None:
    assert void_reasons(decode_artifact(labels_only).header, {}) == (
        "in-domain labels alone carry no promise",
    )


MADE, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def test_other_weights_than_those_of_the_labels_are_told() -> None:
    header = decode_artifact(recertified(with_promise(), slm_weights=MADE)).header
    assert changed_weights(header, ()) is None
    assert changed_weights(header, {MADE}) is None
    told = "the slm's weights were sha256:aaaaaaaaaaaa when the promise was certified and are sha256:bbbbbbbbbbbb"
    assert changed_weights(header, {MADE, OTHER}) == told
    assert changed_weights(decode_artifact(with_promise()).header, {OTHER}) is None
    assert void_reasons(header, {"slm": "smollm2-135m", "llm": "big"}) == ()


def test_white_space_around_a_system_prompt_names_no_other() -> None:
    assert digest_prompt(" Be brief.\n") == digest_prompt("Be brief.")
    assert digest_prompt("Be brief.") != digest_prompt("Be briefer.")
