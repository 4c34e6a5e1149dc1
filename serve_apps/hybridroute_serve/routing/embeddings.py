"""The embeddings that a calibrated policy can be made with, found by the name that its artifact has.

The encoder is an extra, and loaded by nobody who does not ask for it. Which embedding a policy wants is not said
here: its header says so (`artifact.header`).
"""

from collections.abc import Callable

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing.embedding import (
    Embedder,
    EmbeddingUnavailableError,
    load_static_embedder,
    read_static_digest,
)
from hybridroute_serve.routing.encoder import load_encoder, read_encoder_digest

__all__ = ["load_embedder", "read_embedding_digest"]

_LOADERS: dict[EmbeddingName, Callable[[], Embedder]] = {
    EmbeddingName.STATIC: load_static_embedder,
    EmbeddingName.MINILM: load_encoder,
}
_DIGESTS: dict[EmbeddingName, Callable[[], str]] = {
    EmbeddingName.STATIC: read_static_digest,
    EmbeddingName.MINILM: read_encoder_digest,
}


def load_embedder(name: str) -> Embedder:
    """Load an embedding. Raises `EmbeddingUnavailableError` where it is not installed, with what to install."""
    return _LOADERS[_known(name)]()


def read_embedding_digest(name: str) -> str:
    """Return the digest that `load_embedder` would give, without loading anything. Raises the same."""
    return _DIGESTS[_known(name)]()


def _known(name: str) -> EmbeddingName:
    try:
        return EmbeddingName(name)
    except ValueError:
        names = ", ".join(EmbeddingName)
        raise EmbeddingUnavailableError(f"this release knows no embedding {name}: it has {names}") from None
