"""An embedding that keeps what it has read: an evaluation asks for each prompt many times, once a split and more.

For offline work with one that takes milliseconds a text. Decisions are never timed with it.
"""

from hybridroute_serve.routing.embedding import Embedder, Vector

__all__ = ["RememberingEmbedder", "remember_slow"]


class RememberingEmbedder:
    """Gives the vectors of another embedding, each computed once; 1.5 kB a text are kept."""

    is_slow = False

    def __init__(self, embedder: Embedder) -> None:
        self.name = embedder.name
        self.digest = embedder.digest
        self._embedder = embedder
        self._known: dict[str, Vector] = {}

    def embed(self, text: str) -> Vector:
        """Return the text's vector."""
        vector = self._known.get(text)
        if vector is None:
            vector = self._known[text] = self._embedder.embed(text)
        return vector


def remember_slow(embedder: Embedder) -> Embedder:
    """Return what asks a slow embedding once a text, or a quick one itself."""
    return RememberingEmbedder(embedder) if embedder.is_slow else embedder
