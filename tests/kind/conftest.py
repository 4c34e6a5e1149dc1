"""The tier's cluster: made by kind, filled by `kind/install`, with a provider that counts; one for a session."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_kind import KindCluster

from support.kind_tier import OF_THE_TESTS, ROOT, VERSION, Cluster, Provider
from support.kind_traffic import Traffic

HERE = Path(__file__).parent
TEST_SECONDS = 1500
"""A test's limit. The first one also builds images and a cluster; each wait inside has a limit of its own."""
DIAGNOSTICS = ROOT / "build" / "kind-diagnostics"
HOW = "install Docker, kind, kubectl and helm; then `make test-kind`"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """After a failure, keep what the cluster says, and show the part that is read first."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.failed and isinstance(cluster, Cluster):
        folder = DIAGNOSTICS / f"{item.name}-{report.when}"
        cluster.gather(folder)
        report.sections.append((f"cluster, all of it in {folder}", cluster.describe_all()[-20000:]))
    return report


def _missing() -> str:
    """Return why this tier cannot run, or nothing."""
    programs = [name for name in ("docker", "kind", "kubectl", "helm") if shutil.which(name) is None]
    if programs:
        return f"{', '.join(programs)} missing: {HOW}"
    docker = subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=60)
    return "" if docker.returncode == 0 else f"no Docker engine runs: {HOW}"


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster with KubeRay and the operator, installed as the README says, and no route yet."""
    reason = _missing()
    if reason:
        pytest.skip(reason)
    option = request.config.getoption
    kind_bin, kubectl_bin = option("kind_bin") or shutil.which("kind"), option("kind_kubectl_bin")
    kind = KindCluster(
        option("cluster_name"),
        Path(option("kubeconfig")) if option("kubeconfig") else None,
        image=option("kind_image"),
        kind_path=Path(kind_bin),
        kubectl_path=Path(kubectl_bin or shutil.which("kubectl")),
    )
    found = Cluster(kind)
    found.run("make", "images")
    kind.create(ROOT / "kind" / "cluster.yaml")
    try:
        found.run("kind/install")
        yield found
    finally:
        if not option("keep_cluster"):
            kind.delete()


@pytest.fixture(scope="session")
def provider(cluster: Cluster) -> Provider:
    """The provider that the example route is pointed at."""
    cluster.start_pod("provider", "provider.py")
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "provider", "labels": OF_THE_TESTS},
        "spec": {"selector": {"app": "provider"}, "ports": [{"name": "http", "port": 8000}]},
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "provider", "labels": OF_THE_TESTS},
        "stringData": {"apiKey": "sk-first"},
    }
    cluster.apply(service, secret)
    return Provider(cluster)


@pytest.fixture(scope="session")
def route(cluster: Cluster, provider: Provider) -> Cluster:
    """The README's example, ready, with its upstream at the tests' provider."""
    cluster.kubectl("apply", "-f", "examples/hybridroute-cluster.yaml")
    cluster.wait_for_condition("Ready")
    [upstream] = cluster.route()["spec"]["llm"]["upstreams"]
    cluster.patch({"llm": {"upstreams": [upstream | {"baseURL": "http://provider:8000/v1"}]}})
    cluster.wait_until_whole()
    return cluster


@pytest.fixture(scope="module")
def traffic(route: Cluster) -> Iterator[Traffic]:
    """Clients that ask both paths without a pause."""
    started = Traffic(route)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def again_image(cluster: Cluster) -> str:
    """The serve image by another name, which is another image to Kubernetes."""
    image = "hybridroute/serve:again"
    cluster.run("docker", "tag", f"hybridroute/serve:{VERSION}", image)
    cluster.kind.load_docker_image(image)
    return image
