"""Hashes and shape of texts: independent of position, bounded, and never in trouble with any text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridroute_serve.routing.artifact.text_features import SHAPE_NAMES, read_features


def words(text: str) -> list[int]:
    return read_features(text).words.tolist()


def shape(text: str) -> dict[str, float]:
    return dict(zip(SHAPE_NAMES, read_features(text).shape.tolist(), strict=True))


def test_a_word_has_one_hash_wherever_it_stands_and_however_it_is_written() -> None:
    alone = words("refund")[0]
    assert words("the refund")[1] == alone
    assert words("a much longer text, (Refund!)")[-5] != 0
    assert alone in words("a much longer text, (REFUND!)")
    assert alone not in words("refunds")


def test_neighbours_count_in_their_order() -> None:
    assert set(words("bill paid")[:2]) == set(words("paid bill")[:2])
    assert words("bill paid")[2] != words("paid bill")[2]


def test_marks_are_words_of_their_own_and_blanks_are_none() -> None:
    assert len(words("a  b\n\tc")) == 3 + 2
    assert len(words("a?!")) == 3 + 2


def test_runs_of_characters_keep_their_case_unless_folded() -> None:
    upper, lower = read_features("ABCDE"), read_features("abcde")
    assert not set(upper.characters.tolist()) & set(lower.characters.tolist())
    assert upper.folded_characters.tolist() == lower.folded_characters.tolist()
    assert upper.characters.size == 4 + 3 + 2
    assert upper.folded_characters.size == 3 + 2 + 1


def test_runs_of_different_length_never_share_a_hash() -> None:
    features = read_features("aaaa")
    assert len(set(features.characters.tolist())) == 3


def test_what_is_not_asked_for_stays_empty() -> None:
    text = "How much is 12?"
    without_blend = read_features(text, blend=False)
    assert without_blend.characters.size == 0
    assert not without_blend.shape.any()
    assert without_blend.words.tolist() == words(text)
    assert read_features(text, labels=False).folded_characters.size == 0


def test_the_shape_by_hand() -> None:
    numbers = shape("Is 12 + 345 Big?\nYes, it is.")
    assert numbers["lines"] == 2
    assert numbers["sentences"] == 2  # a full stop at the very end has nothing behind it
    assert numbers["longest_number"] == 3
    assert numbers["has_digit"] == 1
    assert numbers["word_length_max"] == 4
    assert numbers["share_digits"] == pytest.approx(5 / 28)
    assert numbers["share_upper"] == pytest.approx(3 / 28)
    assert numbers["log_first_line"] == pytest.approx(np.log1p(16), abs=1e-6)
    assert numbers["share_capitalised_words"] == pytest.approx(2 / 8)


def test_an_empty_text_has_no_hash_and_a_shape_of_zeros() -> None:
    features = read_features("")
    assert features.words.size == features.characters.size == features.folded_characters.size == 0
    assert not features.shape.any()


@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_text_has_finite_features_of_fixed_length(text: str) -> None:
    features = read_features(text)
    assert features.shape.shape == (len(SHAPE_NAMES),)
    assert np.isfinite(features.shape).all()
    assert np.isfinite(read_features(text + "\ud800").shape).all()


def test_work_is_bounded_whatever_the_length() -> None:
    assert read_features("x y " * 100_000).characters.size < 3 * 4096
