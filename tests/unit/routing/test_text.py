"""The routing text is bounded, valid and made of both ends, whatever the message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.routing.text import SIDE_BYTES, routing_text

any_text = st.text(st.characters(categories=None))  # lone surrogates too: JSON can carry them


def test_a_short_message_comes_back_whole() -> None:
    assert routing_text("Why was my card declined?\n") == "Why was my card declined?\n"


def test_an_empty_message_has_an_empty_routing_text() -> None:
    assert routing_text("") == ""


@pytest.mark.parametrize("length", [2 * SIDE_BYTES + 1, 100_000, 1_000_000])
def test_a_long_message_is_its_beginning_and_its_end(length: int) -> None:
    message = ("abcdefghij" * (length // 10 + 1))[:length]
    assert routing_text(message) == message[:SIDE_BYTES] + "\n" + message[-SIDE_BYTES:]


def test_a_message_at_the_limit_is_not_cut() -> None:
    message = "x" * (2 * SIDE_BYTES)
    assert routing_text(message) == message


@pytest.mark.parametrize("character", ["é", "我", "🙂"])
def test_the_limit_is_in_bytes_and_no_character_is_torn(character: str) -> None:
    width = len(character.encode())
    text = routing_text(character * 2 * SIDE_BYTES)
    head, tail = text.split("\n")
    assert set(head) == set(tail) == {character}
    assert len(head) == len(tail) == SIDE_BYTES // width


def test_lone_surrogates_become_question_marks() -> None:
    assert routing_text("ask \ud800 me") == "ask ? me"
    assert "?" * SIDE_BYTES in routing_text("\udfff" * 10_000)


@given(any_text, st.integers(1, 2000))
def test_any_message_gives_bounded_valid_text(text: str, times: int) -> None:
    encoded = routing_text(text * times).encode()  # strict: raises on anything that is not valid
    assert len(encoded) <= 2 * SIDE_BYTES + 1


@given(any_text)
def test_it_is_stable_when_applied_to_its_own_short_results(text: str) -> None:
    once = routing_text(text)
    assert routing_text(once) == once
