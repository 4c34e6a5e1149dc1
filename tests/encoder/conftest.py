"""The tests of the encoder, which is an extra: they are skipped where it is not installed."""

from pathlib import Path

import pytest

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_serve.routing.embedding import EmbeddingUnavailableError
from hybridroute_serve.routing.embeddings import read_embedding_digest
from hybridroute_serve.routing.encoder import EncoderEmbedder, load_encoder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        read_embedding_digest(EmbeddingName.MINILM)
    except EmbeddingUnavailableError as error:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=f"{error}; or run `make test-encoder`"))


@pytest.fixture(scope="session")
def encoder() -> EncoderEmbedder:
    return load_encoder()
