"""The tier's cluster: a real API server with our definition and KubeRay's, and the operator as a process beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.api_server import ApiServer, missing_programs, run_api_server
from support.crd_cases import serve_definition
from support.kuberay import KUBERAY, serve_kuberay
from support.operator_process import OperatorProcess, bind_operator_rights

TIER_SECONDS = 300
"""A test's limit: the first one also waits for the processes of the API server, on a machine that may be busy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIER_SECONDS))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    pytest.importorskip("kopf", reason="kopf is not installed: `make venv` installs what the operator needs")
    missing = [*missing_programs("kube-controller-manager"), *([] if KUBERAY.exists() else [str(KUBERAY)])]
    if missing:
        pytest.skip(f"{', '.join(missing)} missing: `make help` says what this tier needs")
    with run_api_server(tmp_path_factory.mktemp("api-server"), garbage_collector=True) as server:
        serve_definition(server)
        serve_kuberay(server)
        bind_operator_rights(server)
        yield server


@pytest.fixture
def start_operator(cluster: ApiServer, tmp_path: Path) -> Iterator[Callable[..., OperatorProcess]]:
    """Starts replicas; whatever still runs at the end is killed."""
    started: list[OperatorProcess] = []

    def start(*options: str, identity: str = "one") -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(cluster, log, *options, identity=identity))
        return started[-1]

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def operator(start_operator: Callable[..., OperatorProcess]) -> Iterator[OperatorProcess]:
    process = start_operator("--no-leader-election")
    yield process
    assert process.stop() == 0
