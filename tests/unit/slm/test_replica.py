"""A whole SLM replica: from its start, through one answer, to the last heartbeat."""

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hybridroute_api.facts import MODEL_DIGEST
from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.engines.engine import EngineError
from hybridroute_serve.slm.replica import SlmReplica
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send, read_body, send_answer, serve_lifespan
from support.collecting_keeper import CollectingKeeper
from support.serving import running
from support.slm import chat, slm_args


async def _do_nothing() -> None:
    pass


def _keeper_app(keeper: CollectingKeeper) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, start=_do_nothing, stop=_do_nothing)
            return
        await keeper.post(await read_body(scope, receive, 1 << 20))
        await send_answer(send, 200, b"{}")

    return app


async def test_a_replica_reports_what_it_has_done(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    keeper = CollectingKeeper()
    async with running(_keeper_app(keeper)) as keeper_url:
        args = slm_args(
            token_file=str(tmp_path / "token"), journal_dir=str(tmp_path / "journal"), keeper_url=keeper_url
        )
        app = await SlmReplica(args, replica="slm-1").build_app()
        async with running(app) as base_url, aiohttp.ClientSession() as client:
            headers: dict[str, str] = {InternalHeader.TOKEN: "secret", InternalHeader.REQUEST_ID: "hr-1"}
            asking = client.post(f"{base_url}/v1/chat/completions", json=chat(max_tokens=3), headers=headers)
            async with asking as answer:
                assert answer.status == 200
                assert (await answer.json())["choices"][0]["message"]["content"]
    (attempt,) = keeper.attempts.values()
    assert attempt.attempt_id == "hr-1/slm/1"
    last = keeper.heartbeats[-1]
    assert (last.app, last.replica, last.ended, last.ongoing) == ("slm", "slm-1", True, 0)
    assert last.busy_seconds == pytest.approx(attempt.busy_seconds)
    assert last.facts[MODEL_DIGEST].startswith("sha256:")


async def test_a_replica_without_its_model_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret")
    args = slm_args(
        token_file=str(tmp_path / "token"),
        journal_dir=str(tmp_path / "journal"),
        model_uri=str(tmp_path / "absent.gguf"),
    )
    app = await SlmReplica(args, replica="slm-1").build_app()

    async def startup() -> MutableMapping[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(_: MutableMapping[str, Any]) -> None:
        raise AssertionError("it said that it had started")

    with pytest.raises(EngineError, match=r"absent\.gguf does not exist"):
        await app({"type": "lifespan"}, startup, send)
