"""The API server of this tier, with the generated CustomResourceDefinition in it."""

from collections.abc import Iterator

import pytest

from support.api_server import ApiServer, missing_programs, run_api_server
from support.crd_cases import serve_definition


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    missing = missing_programs()
    if missing:
        pytest.skip(
            f"{', '.join(missing)} not on PATH: install the envtest binaries with `setup-envtest use 1.34`"
        )
    with run_api_server(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(api_server: ApiServer) -> ApiServer:
    """The API server, once it serves HybridRoutes."""
    return serve_definition(api_server)
