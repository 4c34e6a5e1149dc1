"""Scores of examples: the formula, its monotony, and texts with nothing in common with anything."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_api.vocabulary import PathName
from hybridroute_serve.routing.embedding import StaticEmbedder, Vector
from hybridroute_serve.routing.examples import NEIGHBOURS, TEMPERATURE, ExamplesScorer

cosine = st.floats(-1, 1, width=32)


class PlaneEmbedder:
    """Reads a text such as "0.6" as a vector of length 1 whose similarity to `QUERY` is that number."""

    digest = "plane"

    def embed(self, text: str) -> Vector:
        similarity = float(text)
        return np.array([similarity, math.sqrt(max(0.0, 1.0 - similarity**2))], dtype=np.float32)


QUERY: Vector = np.array([1.0, 0.0], dtype=np.float32)


def scorer_of(local: list[float], remote: list[float]) -> ExamplesScorer:
    return ExamplesScorer(PlaneEmbedder(), [str(value) for value in local], [str(value) for value in remote])


def test_the_formula_by_hand() -> None:
    scores = scorer_of([0.9, 0.8, 0.7, -1.0], [0.6, 0.5, 0.4, 0.0]).score(QUERY)
    assert scores.local_similarity == pytest.approx(0.8)
    assert scores.remote_similarity == pytest.approx(0.5)
    assert scores.confidence == pytest.approx(1 / (1 + math.exp(-(0.8 - 0.5) / TEMPERATURE)), abs=1e-5)
    assert scores.scope == pytest.approx(0.9)
    assert scores.local_scope == pytest.approx(0.9)
    assert (scores.nearest, scores.nearest_path) == ("0.9", PathName.SLM)


def test_a_nearest_remote_example_is_named_as_such() -> None:
    scores = scorer_of([0.1], [0.2, 0.9]).score(QUERY)
    assert (scores.nearest, scores.nearest_path) == ("0.9", PathName.LLM)
    assert scores.scope == pytest.approx(0.9)
    assert scores.local_scope == pytest.approx(0.1)


def test_fewer_examples_than_neighbours_are_averaged_as_they_are() -> None:
    assert scorer_of([0.4, 0.2], [0.1]).score(QUERY).local_similarity == pytest.approx(0.3)


def test_as_near_to_both_sides_is_one_half() -> None:
    assert scorer_of([0.3], [0.3]).score(QUERY).confidence == pytest.approx(0.5)


def test_a_side_without_examples_counts_as_no_similarity() -> None:
    only_local = scorer_of([0.5], []).score(QUERY)
    only_remote = scorer_of([], [0.5]).score(QUERY)
    assert (only_local.remote_similarity, only_remote.local_similarity) == (0.0, 0.0)
    assert only_local.confidence > 0.99
    assert only_remote.confidence < 0.01
    assert only_remote.local_scope == 0.0


def test_no_examples_at_all_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="at least one example"):
        scorer_of([], [])


def test_a_text_without_tokens_is_even_and_out_of_any_scope() -> None:
    scores = scorer_of([0.9], [0.9]).score(np.zeros(2, dtype=np.float32))
    assert (scores.confidence, scores.scope) == (0.5, 0.0)


@given(st.lists(cosine, min_size=1, max_size=9), st.lists(cosine, min_size=1, max_size=9), st.data())
def test_confidence_rises_with_local_similarity_and_falls_with_remote(
    local: list[float], remote: list[float], data: st.DataObject
) -> None:
    before = scorer_of(local, remote).score(QUERY)
    side = data.draw(st.sampled_from(["local", "remote"]))
    values = local if side == "local" else remote
    index = data.draw(st.integers(0, len(values) - 1))
    values[index] = data.draw(st.floats(values[index], 1, width=32))
    after = scorer_of(local, remote).score(QUERY)
    if side == "local":
        assert after.confidence >= before.confidence - 1e-6
    else:
        assert after.confidence <= before.confidence + 1e-6
    assert 0.0 <= after.confidence <= 1.0
    assert -1.0 - 1e-6 <= after.local_scope <= after.scope <= 1.0 + 1e-6


def test_an_example_of_the_route_is_its_own_nearest(embedder: StaticEmbedder) -> None:
    local = ["Why was my card declined?", "I lost my credit card", "What is my balance?"]
    remote = ["Write a poem about autumn", "What is the weather like?", "Book a flight to Rome"]
    scorer = ExamplesScorer(embedder, local, remote)
    for text in (*local, *remote):
        scores = scorer.score_text(text)
        assert scores.nearest == text
        assert scores.scope == pytest.approx(1.0, abs=1e-5)
        assert (scores.confidence > 0.5) == (text in local)
    assert len(local) >= NEIGHBOURS
