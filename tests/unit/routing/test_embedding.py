"""The embedding as installed: deterministic, normalised, cut at both ends, and the same as model2vec's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model2vec import StaticModel

from hybridroute_serve.routing import embedding
from hybridroute_serve.routing.embedding import (
    EmbeddingUnavailableError,
    StaticEmbedder,
    load_static_embedder,
)
from hybridroute_serve.routing.text import SIDE_TOKENS, routing_text
from support.imports import imported_by


def test_vectors_are_256_float32_of_length_one(embedder: StaticEmbedder) -> None:
    vector = embedder.embed("Why was my card declined?")
    assert vector.shape == (256,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)


def test_nothing_to_read_is_a_vector_of_zeros(embedder: StaticEmbedder) -> None:
    assert not embedder.embed("").any()
    assert not embedder.embed(" \n" * 1000).any()


def test_layout_does_not_matter(embedder: StaticEmbedder) -> None:
    laid_out = embedder.embed("\n  My card\n\n\twas   declined  \n")
    np.testing.assert_array_equal(laid_out, embedder.embed("My card was declined"))


def test_related_texts_are_nearer_than_unrelated_ones(embedder: StaticEmbedder) -> None:
    question = embedder.embed("My credit card was stolen")
    assert (
        question @ embedder.embed("I lost my debit card")
        > question @ embedder.embed("Bake a chocolate cake") + 0.2
    )


def test_it_agrees_with_model2vecs_own_encoding(embedder: StaticEmbedder) -> None:
    text = "Please move 200 dollars from savings into checking, thanks! 我的卡 🙂"
    reference = StaticModel(embedder.vectors, embedder.tokenizer, normalize=True).encode(text)
    np.testing.assert_allclose(embedder.embed(text), reference, atol=1e-6)


WORDS = [
    "the",
    "cat",
    "12.5",
    "<s>",
    "</s>",
    "<unk>",
    "<0x0A>",
    "▁",
    "a▁b",
    "▁▁",
    "überweisung",
    "我的卡",
    "🙂",
    "👩\u200d👩\u200d👧",
    "привет",
    "ไทย",
]
ENDS = ("card " * 300, "🙂🚀" * 40, "🙂 b " * 90, "䶮龘" * 60, "我的" * 90, "ü" * 300)


def by_the_whole_tokenizer(embedder: StaticEmbedder, text: str) -> list[int]:
    ids = embedder.tokenizer.encode(text, add_special_tokens=False).ids
    return list(ids) if len(ids) <= 2 * SIDE_TOKENS else [*ids[:SIDE_TOKENS], *ids[-SIDE_TOKENS:]]


@given(text=st.one_of(st.lists(st.sampled_from(WORDS), min_size=1).map(" ".join), st.text(min_size=1)))
def test_tokens_are_those_of_the_whole_tokenizer(embedder: StaticEmbedder, text: str) -> None:
    words = " ".join(routing_text(text).split())
    if words:
        assert embedder.read_ids(words) == by_the_whole_tokenizer(embedder, words)


@pytest.mark.parametrize("middle", ["", "x " * 40, "字 " * 300, "🙂" * 400])
@pytest.mark.parametrize("tail", ENDS)
@pytest.mark.parametrize("head", ENDS)
def test_the_ends_of_a_long_text_are_those_of_the_whole(
    embedder: StaticEmbedder, head: str, middle: str, tail: str
) -> None:
    words = " ".join((head + middle + tail).split())
    assert embedder.read_ids(words) == by_the_whole_tokenizer(embedder, words)


def test_the_embedding_has_a_token_for_every_byte(embedder: StaticEmbedder) -> None:
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= embedder.tokenizer.get_vocab().keys()


def test_of_a_long_text_only_its_ends_count(embedder: StaticEmbedder) -> None:
    head, tail = "card " * SIDE_TOKENS, "fraud " * SIDE_TOKENS
    short, long = head + "x " * 10 + tail, head + "sonnet " * 5000 + tail
    np.testing.assert_allclose(embedder.embed(short), embedder.embed(long), atol=0.02)


@pytest.mark.parametrize("length", [100_000, 1_000_000])
@pytest.mark.parametrize("unit", ["My card was declined. ", "a", "a\n", "我", "🙂", "\ud83d"])
def test_prompts_of_any_length_embed(embedder: StaticEmbedder, unit: str, length: int) -> None:
    vector = embedder.embed(routing_text((unit * length)[:length]))
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


@given(text=st.text(st.characters(categories=None)))
def test_any_text_has_a_finite_vector_and_always_the_same(embedder: StaticEmbedder, text: str) -> None:
    vector = embedder.embed(routing_text(text))
    assert np.isfinite(vector).all()
    np.testing.assert_array_equal(vector, embedder.embed(routing_text(text)))


def test_the_digest_names_the_installed_files(embedder: StaticEmbedder) -> None:
    assert embedder.digest == load_static_embedder().digest
    assert len(embedder.digest) == 16
    assert int(embedder.digest, 16) >= 0


def test_loading_does_not_import_wordllama_or_a_downloader(embedder: StaticEmbedder) -> None:
    code = (
        "from hybridroute_serve.routing.embedding import load_static_embedder\n"
        "load_static_embedder().embed('hello')"
    )
    assert imported_by(code, ("wordllama", "torch", "transformers", "requests")) == []


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(EmbeddingUnavailableError, match=r"install hybridroute\[serve\]"):
        load_static_embedder()


def test_missing_weights_say_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_WEIGHTS", "weights/gone.safetensors")
    with pytest.raises(EmbeddingUnavailableError, match=r"gone\.safetensors: reinstall wordllama"):
        load_static_embedder()
