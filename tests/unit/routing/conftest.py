"""One embedding for all tests: it takes 0.3 s to load and never changes."""

import pytest

from hybridroute_serve.routing.embedding import StaticEmbedder, load_static_embedder


@pytest.fixture(scope="session")
def embedder() -> StaticEmbedder:
    return load_static_embedder()
