"""How far apart two answers are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybridroute_serve.routing.drift.comparison import compare_answers
from hybridroute_serve.routing.embedding import load_static_embedder


def never(_: str) -> NDArray[np.float32]:
    raise AssertionError("no embedding is needed")


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("Billing", "billing", 0.0),
        (" **billing**. ", "Billing", 0.0),
        ("ﬁne", "fine", 0.0),
        ('```json\n{"a": 1}\n```', '{"a":1}', 0.0),
        ("", "", 0.0),
        ("", "billing", 1.0),
        ("billing", "travel", 1.0),
        ("42", "43", 1.0),
        ('{"intent": "Billing", "urgent": true}', '{"urgent": true, "intent": "billing"}', 0.0),
        ('{"intent": "billing", "urgent": true}', '{"intent": "billing", "urgent": false}', 0.5),
        ('{"intent": "billing"}', '{"topic": "billing"}', 1.0),
        ("[1, 2, 3, 4]", "[1, 2, 3]", 0.25),
        ("{}", "[]", 1.0),
        ("[" * 5_000 + "]" * 5_000, "no", None),
    ],
)
def test_labels_and_structures(one: str, other: str, distance: float | None) -> None:
    embed = never if distance is not None else lambda _: np.zeros(2, np.float32)
    found = compare_answers(one, other, embed)
    assert found == (1.0 if distance is None else distance)
    assert compare_answers(other, one, embed) == found


def test_prose_is_compared_by_what_it_is_about() -> None:
    embed = load_static_embedder().embed
    answer = "You can freeze your card in the app under settings and security."
    alike = compare_answers(answer, "To freeze the card, open security in the app's settings.", embed)
    refusal = compare_answers(answer, "I'm sorry, but I am not able to help you with that request.", embed)
    other = compare_answers(
        answer, "Whisk two eggs with sugar until the mixture turns pale and fluffy.", embed
    )

    assert alike < 0.5
    assert alike + 0.1 < min(refusal, other)


@given(st.text(), st.text())
def test_any_two_texts_have_a_distance(one: str, other: str) -> None:
    distance = compare_answers(one, other, lambda text: np.array([len(text) % 2, 1], np.float32) / 2)
    assert 0.0 <= distance <= 1.0
    assert compare_answers(one, one, never) == 0.0
