"""The live policy's ConfigMap, followed through an API server over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hybridroute_serve.keeper.api_server import ApiAccess, ApiConnection, find_api_access
from hybridroute_serve.keeper.config_map import ConfigMapFollower
from hybridroute_serve.keeper.service import Keeper
from support.keepers import keeper_args
from support.policies import a_policy


class FakeApiServer:
    """One ConfigMap, or a failure."""

    def __init__(self) -> None:
        self.status = 200
        self.document: Any = {"metadata": {"resourceVersion": "1"}, "data": {"live.json": "first"}}
        self.asked: list[tuple[str, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.path, request.headers["Authorization"]))
        return web.json_response(self.document, status=self.status)


@pytest.fixture
def server() -> FakeApiServer:
    return FakeApiServer()


@pytest.fixture
async def access(server: FakeApiServer, tmp_path: Path) -> AsyncIterator[ApiAccess]:
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    (tmp_path / "account").write_text("secret\n")
    yield ApiAccess(f"http://127.0.0.1:{runner.addresses[0][1]}", tmp_path / "account", None)
    await runner.cleanup()


@pytest.fixture
async def follower(access: ApiAccess, tmp_path: Path) -> AsyncIterator[ConfigMapFollower]:
    connection = ApiConnection(access)
    yield ConfigMapFollower(connection, "shop/support-live/live.json", tmp_path / "work" / "live.json")
    await connection.stop()


async def test_a_change_is_copied(follower: ConfigMapFollower, server: FakeApiServer, tmp_path: Path) -> None:
    target = tmp_path / "work" / "live.json"
    await follower.refresh()
    assert target.read_text() == "first"
    assert server.asked == [("/api/v1/namespaces/shop/configmaps/support-live", "Bearer secret")]
    server.document = {"metadata": {"resourceVersion": "2"}, "data": {"live.json": "second"}}
    (tmp_path / "account").write_text("renewed")
    await follower.refresh()
    assert target.read_text() == "second"
    assert server.asked[-1][1] == "Bearer renewed"


async def test_what_did_not_change_is_not_written(
    follower: ConfigMapFollower, server: FakeApiServer, tmp_path: Path
) -> None:
    await follower.refresh()
    (tmp_path / "work" / "live.json").write_text("touched")
    await follower.refresh()
    assert (tmp_path / "work" / "live.json").read_text() == "touched"


FAILURES: list[tuple[int, Any, str]] = [
    (403, {"kind": "Status"}, "answer 403"),
    (404, {"kind": "Status"}, "not understood: TypeError 'NoneType' object is not subscriptable"),
    (500, {}, "answer 500"),
    (200, {"metadata": {"resourceVersion": "3"}, "data": {}}, "not understood: KeyError 'live.json'"),
    (200, {"metadata": {"resourceVersion": "3"}}, "not understood: KeyError 'data'"),
    (200, [], "not understood: TypeError list indices must be integers or slices, not str"),
]


@pytest.mark.parametrize("failure", FAILURES, ids=[row[2][:40] for row in FAILURES])
async def test_a_failure_keeps_the_file_and_is_said_once(
    follower: ConfigMapFollower,
    server: FakeApiServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    failure: tuple[int, Any, str],
) -> None:
    status, document, reason = failure
    await follower.refresh()
    good = server.document
    server.status, server.document = status, document
    await follower.refresh()
    await follower.refresh()
    assert (tmp_path / "work" / "live.json").read_text() == "first"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        f"live policy was not read from the API server reason={reason}"
    ]
    server.status, server.document = 200, good | {"metadata": {"resourceVersion": "4"}}
    await follower.refresh()
    assert (tmp_path / "work" / "live.json").read_text() == "first"


def test_a_pods_access_is_what_the_kubelet_gives() -> None:
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    access = find_api_access(environ, Path("/account"))
    assert access == ApiAccess("https://[fd00::1]:443", Path("/account/token"), Path("/account/ca.crt"))
    with pytest.raises(KeyError):
        find_api_access({})


async def test_the_keeper_starts_with_the_config_maps_policy(
    access: ApiAccess, server: FakeApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybridroute_serve.keeper.service.find_api_access", lambda _: access)
    policy = a_policy()
    server.document["data"]["live.json"] = policy.model_dump_json()
    args = keeper_args(tmp_path).model_copy(update={"live_config_map": "shop/support-live/live.json"})

    async def never(_: float) -> None:
        await asyncio.Event().wait()

    keeper = Keeper(args, clock=lambda: 0.0, monotonic=lambda: 0.0, sleep=never)
    await keeper.start()
    try:
        assert keeper.live.policy == policy
    finally:
        await keeper.stop()
