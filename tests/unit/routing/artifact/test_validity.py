"""Which changes of a route void the promise."""

import pytest

from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.validity import void_reasons


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
