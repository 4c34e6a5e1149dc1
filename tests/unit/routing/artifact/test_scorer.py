"""Scores from a reloaded artifact: as they were fitted, for any text, and only with the right embedding."""

import hashlib
import json
from datetime import date

import numpy as np
import pytest

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes
from hybridroute_lab.feature_table import build_feature_table
from hybridroute_lab.fitting.forest import fit_forest, forest_arrays
from hybridroute_lab.fitting.inputs import bin_columns, fit_edges
from hybridroute_serve.routing.artifact.errors import ArtifactCorruptError, ArtifactEmbeddingError
from hybridroute_serve.routing.artifact.file import decode_artifact, encode_artifact
from hybridroute_serve.routing.artifact.heads import Forests
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer, check_artifact
from support.lab_rows import TOPICS, WordEmbedder, labelled_texts, outcomes, strange_texts


def test_prompts_the_small_model_can_answer_get_the_higher_confidence(
    certified: bytes, embedder: WordEmbedder
) -> None:
    scorer = ArtifactScorer.from_bytes(certified, embedder)
    fresh = labelled_texts(200, seed=9)
    by_label: dict[str, list[float]] = {label: [] for label in TOPICS}
    for text, label in zip(fresh.texts, fresh.labels, strict=True):
        confidence = scorer.score_text(text).confidence
        assert confidence is not None
        by_label[label].append(confidence)
    means = {label: float(np.mean(values)) for label, values in by_label.items()}
    assert means["billing"] > means["cooking"] > means["devices"]
    assert 0.0 < min(means.values()) < max(means.values()) < 1.0


def test_the_same_text_always_gets_the_same_scores(certified: bytes, embedder: WordEmbedder) -> None:
    first, second = (ArtifactScorer.from_bytes(certified, embedder) for _ in range(2))
    assert first.score_text("refund my flight") == second.score_text("refund my flight")


def test_the_scope_gate_names_labels_and_turns_strange_texts_away(
    labels_only: bytes, embedder: WordEmbedder
) -> None:
    scorer = ArtifactScorer.from_bytes(labels_only, embedder)
    known, strange = labelled_texts(200, seed=9), strange_texts(200, seed=9)
    inside = [scorer.score_text(text) for text in known.texts]
    outside = [scorer.score_text(text) for text in strange.texts]
    threshold = scorer.header.scope.threshold
    assert (
        np.mean([scores.nearest == label for scores, label in zip(inside, known.labels, strict=True)]) > 0.95
    )
    assert np.mean([scores.scope < threshold for scores in inside]) < 0.1
    assert np.mean([scores.scope < threshold for scores in outside]) > 0.9
    assert all(scores.confidence is None for scores in inside)


@pytest.mark.parametrize("text", ["", " \n\t", "\ud800", "é" * 4_000, "0" * 100_000])
def test_no_text_is_too_odd_to_score(certified: bytes, embedder: WordEmbedder, text: str) -> None:
    scores = ArtifactScorer.from_bytes(certified, embedder).score_text(text)
    assert scores.confidence is not None
    assert 0.0 <= scores.confidence <= 1.0
    assert 0.0 <= scores.scope <= 1.0


def test_a_text_without_tokens_is_out_of_scope(certified: bytes, embedder: WordEmbedder) -> None:
    assert ArtifactScorer.from_bytes(certified, embedder).score_text("").scope == 0.0


def test_another_embedding_is_refused(certified: bytes) -> None:
    with pytest.raises(ArtifactEmbeddingError, match="words, and other is installed"):
        ArtifactScorer.from_bytes(certified, WordEmbedder("other"))


def test_an_artifact_of_a_release_that_knew_one_embedding_is_of_the_static_one(
    certified: bytes, embedder: WordEmbedder
) -> None:
    line, _, payload = certified.partition(b"\n")
    header = json.loads(line)
    assert (header.pop("embedding_name"), header.pop("sha256")) == ("static", certified[11:75].decode())
    body = json.dumps(header, separators=(",", ":")).encode()[1:] + b"\n" + payload
    older = b'{"sha256":"' + hashlib.sha256(body).hexdigest().encode() + b'",' + body
    assert check_artifact(older, {"static": embedder.digest}.__getitem__).header.embedding_name == "static"
    text = labelled_texts(1).texts[0]
    assert ArtifactScorer.from_bytes(older, embedder).score_text(text) == ArtifactScorer.from_bytes(
        certified, embedder
    ).score_text(text)


def test_a_missing_part_is_named(certified: bytes, embedder: WordEmbedder) -> None:
    artifact = decode_artifact(certified)
    arrays = {name: array for name, array in artifact.arrays.items() if name != "words.weights"}
    with pytest.raises(ArtifactCorruptError, match=r"words\.weights"):
        ArtifactScorer.from_bytes(encode_artifact(artifact.header, arrays), embedder)


def test_the_file_holds_no_user_text_unless_asked_to(embedder: WordEmbedder) -> None:
    rows = outcomes(200)
    made = date(2025, 1, 2)
    plain = calibrate_outcomes(rows, embedder, made, CalibrateOptions(drift_limits=False))
    assert not any(prompt.encode() in plain for prompt in rows.prompts)
    opted_in = CalibrateOptions(drift_limits=False, keep_texts=True)
    scorer = ArtifactScorer.from_bytes(calibrate_outcomes(rows, embedder, made, opted_in), embedder)
    assert set(scorer.header.examples) <= set(rows.prompts)
    assert scorer.header.examples


def test_without_labels_the_nearest_row_is_named_by_number_or_by_its_text(embedder: WordEmbedder) -> None:
    rows = outcomes(200)
    unnamed = type(rows)(rows.prompts, rows.weak, rows.strong, rows.categories)
    made = date(2025, 1, 2)
    by_number = calibrate_outcomes(
        unnamed, embedder, made, CalibrateOptions(certify_share=0.0, drift_limits=False)
    )
    assert (
        ArtifactScorer.from_bytes(by_number, embedder).score_text(rows.prompts[7]).nearest.startswith("row ")
    )
    by_text = calibrate_outcomes(
        unnamed, embedder, made, CalibrateOptions(certify_share=0.0, drift_limits=False, keep_texts=True)
    )
    assert ArtifactScorer.from_bytes(by_text, embedder).score_text(rows.prompts[7]).nearest == rows.prompts[7]


def test_the_walk_through_the_forests_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(300, 6)).astype(np.float32)
    targets = numbers[:, 0] + (numbers[:, 4] > 0.5)
    edges = fit_edges(numbers)
    bins = bin_columns(numbers, edges)
    first, second = fit_forest(bins[:, :3], targets, 1), fit_forest(bins, targets, 2)
    walked = Forests.from_arrays(forest_arrays(first, second, edges))
    for row in range(50):
        low, high = walked.scores(numbers[row])
        assert low == pytest.approx(float(first.predict(bins[row : row + 1, :3])[0]), abs=2e-3)
        assert high == pytest.approx(float(second.predict(bins[row : row + 1])[0]), abs=2e-3)


def test_features_read_one_by_one_are_those_that_were_fitted(
    certified: bytes, embedder: WordEmbedder
) -> None:
    texts = labelled_texts(20, seed=5).texts
    table = build_feature_table(texts, embedder)
    scorer = ArtifactScorer.from_bytes(certified, embedder)
    for row, text in enumerate(texts):
        assert scorer.read(text).shape == pytest.approx(table.shapes[row])
        assert embedder.embed(text) == pytest.approx(table.vectors[row])
