"""The static embedding that routes: 256 numbers for a text, on the CPU, in well under a millisecond.

The weights are those that the package `wordllama` ships inside its wheel (32,000 tokens, float16). Only its
files are used: importing it would import its training code, and its own loader tries to download. They are
served by `model2vec.StaticModel`. Loading is the only I/O here; nothing happens at import.
"""

import hashlib
from dataclasses import dataclass, field
from importlib.util import find_spec
from mmap import mmap
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing.text import SIDE_TOKENS

__all__ = [
    "Embedder",
    "EmbeddingUnavailableError",
    "StaticEmbedder",
    "Vector",
    "digest_files",
    "load_static_embedder",
    "package_folder",
    "read_static_digest",
]

Vector = NDArray[np.float32]
"""Some float32, always as many for one embedding, of length 1, or of length 0 when there was nothing to read."""

_SPACE_MARK = "\u2581"  # how the vocabulary writes a space
_WEIGHTS = "weights/l2_supercat_256.safetensors"
_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"


class EmbeddingUnavailableError(RuntimeError):
    """The files of the embedding are not installed, or are not those that this release knows."""


class Embedder(Protocol):
    """Turns a routing text into a vector; the same text always gives the same vector."""

    @property
    def name(self) -> str:
        """Which embedding it is, an `EmbeddingName`."""
        ...

    @property
    def digest(self) -> str:
        """Names weights and tokenizer: two embedders with one digest give the same vectors."""
        ...

    @property
    def is_slow(self) -> bool:
        """True where a text takes milliseconds: not to be embedded in a loop that serves."""
        ...

    def embed(self, text: str) -> Vector:
        """Return the text's normalised vector; zeros when the text has no token."""
        ...


@dataclass(frozen=True, slots=True)
class StaticEmbedder:
    """Mean of token vectors, normalised. Of a long text only its first and last 256 tokens count, and any run of
    white space counts as one space: layout says nothing of a topic. A vector has 256 numbers.
    """

    name: ClassVar[str] = EmbeddingName.STATIC
    is_slow: ClassVar[bool] = False

    tokenizer: Any
    """A `tokenizers.Tokenizer` without truncation or padding, whose model is BPE with a token for every byte."""
    model: Any
    """The tokenizer's `model`."""
    alphabet: frozenset[str]
    """Characters that occur in tokens. Any other is spelt in bytes, a token each, and joins no neighbour."""
    special: tuple[str, ...]
    """Texts that the tokenizer takes for commands, such as `</s>`."""
    vectors: Vector
    """One row a token."""
    digest: str
    _unknown: int | None = field(default=None)

    def embed(self, text: str) -> Vector:
        """Return the text's normalised vector; zeros when the text has no token."""
        # One text a call: `StaticModel.encode` spends more on batching, progress bars and resetting its
        # tokenizer than on the arithmetic. The sum has the mean's direction.
        words = " ".join(text.split())
        ids = self.read_ids(words) if words else []
        if self._unknown is not None and self._unknown in ids:
            ids = [token for token in ids if token != self._unknown]
        if not ids:
            return np.zeros(self.vectors.shape[1], dtype=np.float32)
        total: Vector = np.take(self.vectors, ids, axis=0).sum(axis=0)
        length = float(np.sqrt(total @ total))
        return total / np.float32(length) if length > 0.0 else total

    def read_ids(self, words: str) -> list[int]:
        """Return the first and last 256 tokens of a text, or all of a shorter one, as the whole tokenizer would.

        The model alone is asked, which spares a third of the time: what comes before it is a mark for each space and
        one before the first word. Where both ends are spelt in bytes, what lies between them is not read at all:
        2,000 bytes of emoji take as long as 500.
        """
        if "<" in words and any(command in words for command in self.special):
            return _both_ends(self.tokenizer.encode_batch_fast([words], add_special_tokens=False)[0].ids)
        marked = _SPACE_MARK + words.replace(" ", _SPACE_MARK)
        if not words.isascii() and len(marked) > SIDE_TOKENS // 2:
            head, tail = self._spelt(marked), self._spelt(marked[::-1])
            if head and tail and head + tail <= len(marked):
                first = [token.id for token in self.model.tokenize(marked[:head])]
                last = [token.id for token in self.model.tokenize(marked[-tail:])]
                return first[:SIDE_TOKENS] + last[-SIDE_TOKENS:]
        return _both_ends([token.id for token in self.model.tokenize(marked)])

    def _spelt(self, marked: str) -> int:
        """Return how many first characters certainly are 256 tokens, the last of them spelt in bytes; 0 for unknown."""
        tokens = 0
        for number, character in enumerate(marked[:SIDE_TOKENS], start=1):
            if character not in self.alphabet:
                tokens += len(character.encode())
                if tokens >= SIDE_TOKENS:
                    return number
        return 0


def _both_ends(ids: list[int]) -> list[int]:
    return ids if len(ids) <= 2 * SIDE_TOKENS else ids[:SIDE_TOKENS] + ids[-SIDE_TOKENS:]


def load_static_embedder() -> StaticEmbedder:
    """Read weights and tokenizer from the installed `wordllama` package, in about 0.3 s and 40 MB.

    Raises `EmbeddingUnavailableError` when the package or its files are missing.
    """
    # Imported here: the command line reads this module's types and should not pay for these.
    from model2vec import StaticModel  # noqa: PLC0415
    from safetensors.numpy import load  # noqa: PLC0415
    from tokenizers import Tokenizer  # noqa: PLC0415

    weights, tokenizer = _read_files()
    vectors = load(weights)["embedding.weight"].astype(np.float32)
    model = StaticModel(vectors, Tokenizer.from_buffer(tokenizer), max_length=None)
    digest = digest_files(weights, tokenizer)
    alphabet = frozenset("".join(model.tokenizer.get_vocab()))
    special = tuple(str(token.content) for token in model.tokenizer.get_added_tokens_decoder().values())
    return StaticEmbedder(
        tokenizer=model.tokenizer,
        model=model.tokenizer.model,
        alphabet=alphabet,
        special=special,
        vectors=model.embedding,
        digest=digest,
        _unknown=model.unk_token_id,
    )


def read_static_digest() -> str:
    """Return the digest that `load_static_embedder` would give, without loading anything.

    Raises `EmbeddingUnavailableError` when the package or its files are missing.
    """
    return digest_files(*_read_files())


def _read_files() -> tuple[bytes, bytes]:
    folder = package_folder("wordllama", "install hybridroute[serve]")
    try:
        return (folder / _WEIGHTS).read_bytes(), (folder / _TOKENIZER).read_bytes()
    except OSError as error:
        raise EmbeddingUnavailableError(
            f"cannot read {error.filename}: reinstall wordllama, whose wheel holds the router's embedding"
        ) from error


def digest_files(*contents: bytes | mmap) -> str:
    """Return what names an embedding that these files make."""
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]


def package_folder(name: str, remedy: str) -> Path:
    """Return where an installed package's files are, without running it. Raises `EmbeddingUnavailableError`."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddingUnavailableError(f"{name} is not installed: {remedy}")
    return Path(spec.submodule_search_locations[0])
