"""The keeper's answers over ASGI: tokens, batches, records, costs, state, the fence."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybridroute_api.records import Batch, ReplicaHeartbeat
from hybridroute_api.vocabulary import InternalHeader, Outcome, PathName
from hybridroute_serve.keeper.service import Keeper
from support.asgi_client import AsgiAnswer, AsgiClient
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import METRICS_TOKEN, TOKEN, a_keeper_app, write_live
from support.policies import a_policy
from support.reports import a_record, an_attempt

_INTERNAL = {InternalHeader.TOKEN.value: TOKEN}
_PATHS = [
    "/internal/live",
    "/internal/standing",
    "/internal/conversations/c",
    "/state",
    "/records",
    "/records/r1",
    "/costs",
    "/metrics",
]


@dataclass
class _Bench:
    client: AsgiClient
    keeper: Keeper
    directory: Path
    clock: TurnedClock

    async def get(self, path: str, headers: dict[str, str] | None = None) -> AsgiAnswer:
        return await self.client.request("GET", path, headers=_INTERNAL | (headers or {}))

    async def json(self, path: str) -> Any:
        answer = await self.get(path)
        assert answer.status == 200, answer.body
        return answer.json()

    async def send(self, batch: Batch) -> AsgiAnswer:
        return await self.client.request("POST", "/internal/batch", msgspec.json.encode(batch), _INTERNAL)


@pytest.fixture
async def bench(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[_Bench]:
    app = a_keeper_app(tmp_path, clock)
    async with app.router.lifespan_context(app):
        yield _Bench(AsgiClient(app, root_path="/keeper"), app.state.keeper, tmp_path, clock)


@pytest.mark.parametrize("path", [*_PATHS, "/no-such-path", "/healthz/../state"])
async def test_nothing_is_answered_without_the_internal_token(bench: _Bench, path: str) -> None:
    for headers in ({}, {InternalHeader.TOKEN.value: TOKEN[:-1]}, {InternalHeader.TOKEN.value: ""}):
        answer = await bench.client.request("GET", path, headers=headers)
        assert answer.status == 401
        assert answer.json()["error"]["code"] == "internal_token_required"
        assert TOKEN.encode() not in answer.body


async def test_a_batch_without_the_token_is_not_stored(bench: _Bench) -> None:
    body = msgspec.json.encode(Batch(records=[a_record("r1")]))
    assert (await bench.client.request("POST", "/internal/batch", body)).status == 401
    assert (await bench.get("/records/r1")).status == 404


async def test_the_metrics_token_is_good_for_metrics_alone(bench: _Bench) -> None:
    bearer = {"authorization": f"Bearer {METRICS_TOKEN}"}
    assert (await bench.client.request("GET", "/metrics", headers=bearer)).status == 200
    assert (await bench.get("/metrics")).status == 200
    for path in set(_PATHS) - {"/metrics"}:
        assert (await bench.client.request("GET", path, headers=bearer)).status == 401
        as_internal = {InternalHeader.TOKEN.value: METRICS_TOKEN}
        assert (await bench.client.request("GET", path, headers=as_internal)).status == 401
    assert (
        await bench.client.request("GET", "/metrics", headers={"authorization": METRICS_TOKEN})
    ).status == 401


async def test_health_needs_no_token(bench: _Bench) -> None:
    assert (await bench.client.request("GET", "/healthz")).json() == {"status": "ok"}


async def test_a_batch_is_on_record_when_it_is_answered(bench: _Bench) -> None:
    batch = Batch(records=[a_record("r1")], attempts=[an_attempt("r1")])
    assert (await bench.send(batch)).status == 200
    assert (await bench.send(batch)).status == 200
    shown = await bench.json("/records/r1")
    assert shown["record"]["request_id"] == "r1"
    assert [attempt["cost_usd"] for attempt in shown["attempts"]] == ["0.000200000"]
    assert shown["cost_usd"] == "0.000200000"
    assert shown["explanation"].startswith("path slm, gate confidence: confidence 0.91 >= threshold 0.80; ")
    assert (await bench.json("/costs"))["requests"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"records": [{"request_id": "r1"}]}', b'{"records": 7}', b"\xff\xfe"]
)
async def test_a_batch_that_cannot_be_read_is_refused_for_good(bench: _Bench, body: bytes) -> None:
    answer = await bench.client.request("POST", "/internal/batch", body, _INTERNAL)
    assert answer.status == 400
    assert answer.json()["error"]["message"].startswith("bad batch: ")


async def test_a_number_that_no_column_holds_is_refused_for_good_and_nothing_else_is(bench: _Bench) -> None:
    bad = Batch(attempts=[an_attempt("r2", cost_nano_usd=2**63)])
    assert (await bench.send(bad)).status == 400
    assert (await bench.send(Batch(records=[a_record("r1")]))).status == 200


async def test_an_attempt_before_its_record_is_shown_as_not_ended(bench: _Bench) -> None:
    await bench.send(Batch(attempts=[an_attempt("r1")]))
    shown = await bench.json("/records/r1")
    assert (shown["record"], shown["explanation"]) == (None, "not ended yet")


async def test_records_are_listed_newest_first_within_limit_and_since(bench: _Bench) -> None:
    records = [a_record(f"r{n}", received_at=1000.0 + n) for n in range(10)]
    await bench.send(Batch(records=records, attempts=[an_attempt("r9")]))

    async def ids(query: str) -> list[str]:
        return [record["request_id"] for record in (await bench.json(f"/records{query}"))["records"]]

    assert await ids("?limit=3") == ["r9", "r8", "r7"]
    assert await ids("?since=1008") == ["r9", "r8"]
    assert len(await ids("")) == 10
    assert (await bench.json("/records?limit=1"))["records"][0]["cost_usd"] == "0.000200000"
    for query in ("?limit=0", "?limit=1001", "?limit=x", "?since=yesterday"):
        assert (await bench.get(f"/records{query}")).status == 400


async def test_costs_have_their_shape_and_add_up(bench: _Bench) -> None:
    slm = an_attempt("r1", path=PathName.SLM, upstream="slm", busy_seconds=4.5, cost_nano_usd=0)
    records = [
        a_record("r1"),
        a_record("r2", path=PathName.LLM),
        a_record("r3", path=PathName.LLM, outcome=Outcome.TIMEOUT),
        a_record("r4", path=None, outcome=Outcome.CLIENT_ERROR),
    ]
    beat = ReplicaHeartbeat("slm-1", "slm", 1000.0, 1045.0, busy_seconds=4.5)
    await bench.send(
        Batch(records=records, attempts=[slm, an_attempt("r2")], heartbeats=[beat], replica="slm-1")
    )
    assert await bench.json("/costs") == {
        "requests": 4,
        "errors": 1,
        "paths": {
            "slm": {
                "requests": 1,
                "prompt_tokens": 40,
                "completion_tokens": 10,
                "usd": "0.000100000",
                "idle_usd": "0.000900000",
            },
            "llm": {"requests": 2, "prompt_tokens": 40, "completion_tokens": 10, "usd": "0.000200000"},
        },
        "all_llm_usd": "0.000400000",
        "saved_usd": "-0.000800000",
    }


async def test_the_live_policy_has_its_version_as_etag(bench: _Bench) -> None:
    answer = await bench.get("/internal/live")
    assert answer.json() == a_policy().model_dump(mode="json")
    etag = answer.headers["etag"]
    assert etag == f'"{a_policy().version}"'
    assert (await bench.get("/internal/live", {"if-none-match": etag})).status == 304
    changed = a_policy(max_body_bytes=7)
    write_live(bench.directory, changed)
    await bench.keeper.live.refresh()
    assert (await bench.get("/internal/live", {"if-none-match": etag})).json()["version"] == changed.version


async def test_a_bad_live_file_leaves_the_last_good_in_force_and_says_so(bench: _Bench) -> None:
    write_live(bench.directory, '{"route": "support"}')
    await bench.keeper.live.refresh()
    state = await bench.json("/state")
    assert state["live"]["version"] == a_policy().version
    assert state["live"]["error"].startswith("live.json is not in force: mode: Field required")
    scrape = (await bench.get("/metrics")).body.decode()
    assert 'hybridroute_live_policy_valid{route="support"} 0.0' in scrape


async def test_the_state_shows_live_replicas_by_app(bench: _Bench) -> None:
    beats = [
        ReplicaHeartbeat("router-1", "router", 1.0, 2.0, ongoing=3, facts={"slm_ready": "1"}),
        ReplicaHeartbeat("router-0", "router", 0.5, 2.0, ended=True),
        ReplicaHeartbeat("slm-1", "slm", 1.0, 2.0),
    ]
    await bench.send(Batch(heartbeats=beats))
    bench.clock.now += 11
    await bench.send(Batch(heartbeats=[ReplicaHeartbeat("slm-1", "slm", 1.0, 13.0)]))
    state = await bench.json("/state")
    assert (state["route"], state["epoch"], state["superseded"]) == ("support", 1, None)
    assert {app: [r["alive"] for r in rows] for app, rows in state["replicas"].items()} == {
        "router": [False],
        "slm": [True],
    }
    assert state["replicas"]["router"][0]["facts"] == {"slm_ready": "1"}
    assert state["totals"]["requests"] == 0


async def test_a_conversation_is_answered_with_its_path(bench: _Bench) -> None:
    await bench.send(Batch(records=[a_record("r1", conversation_key="a/b c")]))
    assert await bench.json("/internal/conversations/a/b c") == {"path": "slm"}
    assert (await bench.get("/internal/conversations/other")).status == 404


async def test_a_superseded_keeper_fails_loudly(
    bench: _Bench, tmp_path: Path, clock: TurnedClock, caplog: pytest.LogCaptureFixture
) -> None:
    newer = a_keeper_app(tmp_path, clock)
    async with newer.router.lifespan_context(newer):
        answer = await bench.send(Batch(records=[a_record("r1")]))
        assert (answer.status, answer.json()["error"]["code"]) == (503, "keeper_superseded")
        assert (await bench.client.request("GET", "/healthz")).status == 503
        assert (await bench.json("/state"))["superseded"] == "keeper of epoch 1 was superseded by epoch 2"
        await bench.keeper.maintain(retention=True)
        assert (await AsgiClient(newer).request("GET", "/healthz")).status == 200
    assert [record.levelname for record in caplog.records if "superseded" in record.message] == ["CRITICAL"]


async def test_a_keeper_without_any_policy_stores_nothing_it_could_not_price(
    tmp_path: Path, clock: TurnedClock
) -> None:
    (tmp_path / "live.json").write_text("{")
    app = a_keeper_app(tmp_path, clock)
    async with app.router.lifespan_context(app):
        bench = _Bench(AsgiClient(app), app.state.keeper, tmp_path, clock)
        assert (await bench.send(Batch(records=[a_record("r1")]))).status == 503
        assert (await bench.get("/internal/live")).status == 503
        write_live(tmp_path, a_policy())
        await bench.keeper.live.refresh()
        assert (await bench.send(Batch(records=[a_record("r1")]))).status == 200


async def test_a_restart_beside_a_bad_file_goes_on_with_the_last_good(
    tmp_path: Path, clock: TurnedClock
) -> None:
    first = a_keeper_app(tmp_path, clock)
    async with first.router.lifespan_context(first):
        pass
    (tmp_path / "live.json").write_text("{")
    again = a_keeper_app(tmp_path, clock)
    async with again.router.lifespan_context(again):
        bench = _Bench(AsgiClient(again), again.state.keeper, tmp_path, clock)
        state = await bench.json("/state")
        assert (state["epoch"], state["live"]["version"]) == (2, a_policy().version)
        assert state["live"]["error"]


async def test_upkeep_runs_by_itself(tmp_path: Path, clock: TurnedClock) -> None:
    async def soon(_: float) -> None:
        await asyncio.sleep(0.001)

    app = a_keeper_app(tmp_path, clock, sleep=soon)
    async with app.router.lifespan_context(app):
        bench = _Bench(AsgiClient(app), app.state.keeper, tmp_path, clock)
        beat = ReplicaHeartbeat("slm-1", "slm", 1.0, 2.0)
        await bench.send(Batch(heartbeats=[beat], attempts=[an_attempt("orphan")], records=[a_record("r1")]))
        clock.now += a_policy().records.max_age_seconds + 1

        async def is_done() -> bool:
            state = await bench.json("/state")
            orphan = await bench.json("/records/orphan")
            gone = (await bench.get("/records/r1")).status == 404
            return state["replicas"] == {} and orphan["record"] is not None and gone

        await eventually(is_done)
