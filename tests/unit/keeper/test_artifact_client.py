"""How a router gets its calibrated policy: from the keeper by digest, and from its copy while the keeper is away."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from hybridroute_api.standing import DriftStanding
from hybridroute_serve.keeper.artifact_client import COPY_NAME, ArtifactSource
from hybridroute_serve.keeper.standing_client import StandingSource
from hybridroute_serve.routing.artifact.scorer import check_artifact
from support.artifacts import certified, labels_only


class FakeKeeper:
    """Serves artifacts by name."""

    def __init__(self) -> None:
        self.artifacts: dict[str, bytes] = {}
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        digest = request.match_info["digest"]
        self.asked.append((digest, request.headers["x-hybridroute-internal-token"]))
        data = self.artifacts.get(digest)
        return web.Response(status=404) if data is None else web.Response(body=data)


class Router:
    """One router's source, and what was handed on."""

    def __init__(self, session: aiohttp.ClientSession, url: str, directory: Path) -> None:
        self.standing = StandingSource(session, url, "secret")
        self.applied: list[bytes] = []
        self.source = ArtifactSource(
            session, url, "secret", directory=directory, standing=self.standing, apply=self._apply
        )

    async def _apply(self, data: bytes) -> None:
        check_artifact(data, lambda _: "words")
        self.applied.append(data)

    async def sees(self, digest: str) -> bool:
        self.standing.standing = DriftStanding(digest)
        return await self.source.refresh()


@pytest.fixture
def keeper() -> FakeKeeper:
    return FakeKeeper()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


@pytest.fixture
async def url(keeper: FakeKeeper) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/internal/artifacts/{digest}", keeper.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def router(session: aiohttp.ClientSession, url: str, tmp_path: Path) -> Router:
    return Router(session, url, tmp_path)


async def test_what_the_standing_names_is_fetched_once(router: Router, keeper: FakeKeeper) -> None:
    keeper.artifacts = {"a": certified(), "b": labels_only()}
    assert await router.source.refresh()  # before any standing
    assert await router.sees("")
    for digest in ("a", "a", "b"):
        assert await router.sees(digest)
    assert router.applied == [certified(), labels_only()]
    assert keeper.asked == [("a", "secret"), ("b", "secret")]


async def test_one_that_the_keeper_has_no_more_or_that_is_broken_is_asked_for_again(
    router: Router, keeper: FakeKeeper
) -> None:
    assert not await router.sees("a")
    keeper.artifacts["a"] = certified()[:-1]
    assert not await router.sees("a")
    assert router.applied == []
    keeper.artifacts["a"] = certified()
    assert await router.sees("a")
    assert router.applied == [certified()]


async def test_a_replica_that_starts_without_the_keeper_has_the_last_one(
    router: Router, keeper: FakeKeeper, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    keeper.artifacts["a"] = certified()
    await router.sees("a")
    later = Router(session, "http://127.0.0.1:9", tmp_path)
    await later.source.start()
    await later.source.stop()
    assert later.applied == [certified()]
    assert not await later.sees("b")


async def test_a_broken_copy_is_left_alone(router: Router, tmp_path: Path) -> None:
    (tmp_path / COPY_NAME).write_bytes(b"not an artifact")
    await router.source.start()
    await router.source.stop()
    assert router.applied == []
