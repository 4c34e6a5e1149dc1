"""The keeper's hold on the calibrated policy: what it takes, what it refuses with which words, what stays in force."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.keeper.artifact_desk import ArtifactDesk
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.header import MAX_ARTIFACT_BYTES
from hybridroute_serve.routing.embedding import EmbeddingUnavailableError
from support.artifacts import artifact_policy, certified, labels_only, of_embedding, recertified
from support.policies import a_policy

CONFIG_MAP = "shop/support-policy/policy.artifact"


def asks(**place: str) -> LivePolicy:
    routing = a_policy().routing.model_copy(
        update={
            "local_examples": (),
            "remote_examples": (),
            "artifact": artifact_policy(**({"file": None} | place)),
        }
    )
    return a_policy(routing=routing)


class Desks:
    """Desks on one directory, one after the other, as keepers come and go."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "support.artifact"
        self._state = directory / "state"
        self.changes = 0
        self.embedding = "words"
        self.encoder: str | None = None
        """Digest of the embedding minilm; None where it is not installed."""

    def open(self, connection: Any = None) -> ArtifactDesk:
        async def note() -> None:
            self.changes += 1

        return ArtifactDesk(self._state, connection, self._read_digest, note)

    def _read_digest(self, name: str) -> str:
        if name == "static":
            return self.embedding
        if self.encoder is None:
            raise EmbeddingUnavailableError("onnxruntime not installed: pip install it")
        return self.encoder

    @property
    def policy(self) -> LivePolicy:
        return asks(file=str(self.file))


@pytest.fixture
def desks(tmp_path: Path) -> Desks:
    return Desks(tmp_path)


def digest(data: bytes) -> str:
    return decode_artifact(data).digest


async def test_a_good_file_is_in_force_and_read_again_when_it_changes(desks: Desks) -> None:
    desk = desks.open()
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    await desk.refresh(desks.policy)
    assert desk.held is not None
    assert (desk.held.digest, desk.problem, desks.changes) == (digest(certified()), None, 1)
    terms = desk.plan(desks.policy)
    assert terms is not None
    assert terms.artifact == desk.held.digest
    renewed = recertified(certified())
    desks.file.write_bytes(renewed)
    await desk.refresh(desks.policy)
    assert desk.held.digest == digest(renewed)
    assert desks.changes == 2


DAMAGED = certified()[:-1] + bytes([certified()[-1] ^ 1])
BROKEN: list[tuple[str, bytes, str]] = [
    ("no artifact", b"confidence: 0.5\n", "not a routing artifact"),
    ("empty", b"", "not a routing artifact"),
    ("damaged", DAMAGED, "the artifact is damaged"),
    ("cut off", certified()[:4_000], "the artifact is damaged"),
    ("too large", b" " * (MAX_ARTIFACT_BYTES + 1), "is larger than"),
]


@pytest.mark.parametrize(("data", "told"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
async def test_a_broken_file_leaves_the_last_good_one_also_across_keepers(
    desks: Desks, data: bytes, told: str
) -> None:
    desk = desks.open()
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    desks.file.write_bytes(data)
    await desk.refresh(desks.policy)
    for keeper in (desk, desks.open()):
        await keeper.refresh(desks.policy)
        assert keeper.held is not None
        assert keeper.held.digest == digest(certified())
        assert keeper.problem is not None
        assert told in keeper.problem
    desks.file.write_bytes(labels_only())
    await desk.refresh(desks.policy)
    assert desk.problem is None
    assert desk.held is not None
    assert desk.held.digest == digest(labels_only())


async def test_of_another_embedding_it_is_refused(desks: Desks) -> None:
    desks.embedding = "another"
    desk = desks.open()
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    assert desk.held is None
    assert desk.problem is not None
    assert "made with embedding words, and another is installed" in desk.problem


async def test_of_an_embedding_that_is_not_installed_it_is_refused_and_the_last_good_one_stays(
    desks: Desks,
) -> None:
    desk = desks.open()
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    made_with_it = of_embedding(certified(), "minilm", "slow words")
    desks.file.write_bytes(made_with_it)
    await desk.refresh(desks.policy)
    assert desk.held is not None
    assert desk.held.digest == digest(certified())
    assert (
        desk.problem
        == "the artifact was made with embedding minilm: onnxruntime not installed: pip install it"
    )
    desks.encoder = "slow words"
    installed = desks.open()
    await installed.refresh(desks.policy)
    assert installed.problem is None
    assert installed.held is not None
    assert installed.held.digest == digest(made_with_it)


async def test_a_file_that_is_not_there_is_told_and_found_when_it_comes(desks: Desks) -> None:
    desk = desks.open()
    await desk.refresh(desks.policy)
    assert desk.held is None
    assert desk.problem == f"{desks.file} cannot be read: No such file or directory"
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    assert desk.problem is None
    assert desk.held is not None


async def test_a_route_that_asks_for_none_has_none_and_its_problem_is_gone(desks: Desks) -> None:
    desk = desks.open()
    desks.file.write_bytes(certified())
    await desk.refresh(desks.policy)
    await desk.refresh(a_policy())
    assert (desk.held, desk.problem, desk.plan(a_policy())) == (None, None, None)
    assert desks.changes == 2
    other = asks(file=str(desks.file) + ".gone")
    await desk.refresh(other)
    assert desk.held is not None  # the last good one, for the new name is of no file
    assert desk.problem is not None


class FakeConnection:
    """An API server with one ConfigMap."""

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = None
        self.status = 200
        self.asked: list[bool] = []
        """Whether each request was for metadata alone."""

    async def call(self, method: str, path: str, body: Any = None, **options: str) -> tuple[int, Any]:
        assert (method, path) == ("GET", "/api/v1/namespaces/shop/configmaps/support-policy")
        alone = "PartialObjectMetadata" in options.get("accept", "")
        self.asked.append(alone)
        if self.document is None:
            return 404, {}
        return self.status, {"metadata": self.document["metadata"]} if alone else self.document

    def hold(self, version: str, **entries: Any) -> None:
        self.document = {"metadata": {"resourceVersion": version}, **entries}


def packed(data: bytes) -> dict[str, str]:
    return {"policy.artifact": base64.b64encode(data).decode()}


async def test_a_config_map_is_read_in_full_only_when_its_version_changed(desks: Desks) -> None:
    server = FakeConnection()
    server.hold("1", binaryData=packed(certified()))
    desk, policy = desks.open(server), asks(config_map=CONFIG_MAP)
    for _ in range(3):
        await desk.refresh(policy)
    assert desk.held is not None
    assert desk.held.data == certified()
    assert server.asked == [True, False, True, True]
    server.hold("2", binaryData=packed(labels_only()))
    await desk.refresh(policy)
    assert desk.held.data == labels_only()


MISSING: list[tuple[str, Callable[[FakeConnection], None], str]] = [
    ("no object", lambda server: None, "ConfigMap support-policy does not exist"),
    ("no entry", lambda server: server.hold("1", data={"a": "b"}), "has no entry policy.artifact"),
    (
        "no base64",
        lambda server: server.hold("1", binaryData={"policy.artifact": "*"}),
        "is no base64",
    ),
    ("text", lambda server: server.hold("1", data={"policy.artifact": "b"}), "not a routing artifact"),
]


@pytest.mark.parametrize(
    ("prepare", "told"), [case[1:] for case in MISSING], ids=[case[0] for case in MISSING]
)
async def test_a_config_map_without_a_policy_is_told(
    desks: Desks, prepare: Callable[[FakeConnection], None], told: str
) -> None:
    server = FakeConnection()
    prepare(server)
    desk = desks.open(server)
    await desk.refresh(asks(config_map=CONFIG_MAP))
    assert desk.problem is not None
    assert told in desk.problem


async def test_an_api_server_that_is_away_leaves_the_policy_and_is_forgotten_when_it_is_back(
    desks: Desks,
) -> None:
    server = FakeConnection()
    server.hold("1", binaryData=packed(certified()))
    desk, policy = desks.open(server), asks(config_map=CONFIG_MAP)
    await desk.refresh(policy)
    server.status = 503
    await desk.refresh(policy)
    assert desk.held is not None
    assert desk.problem == "ConfigMap support-policy was not read: answer 503"
    server.status = 200
    await desk.refresh(policy)
    assert desk.problem is None


async def test_outside_of_a_cluster_a_config_map_is_refused(desks: Desks) -> None:
    desk = desks.open()
    await desk.refresh(asks(config_map=CONFIG_MAP))
    assert desk.problem == f"ConfigMap {CONFIG_MAP} cannot be read outside of a cluster: name a file"
