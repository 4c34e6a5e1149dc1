"""Dollars over ASGI: leases and reservations, live edits, deaths, lost files, the fence."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridroute_api.records import Batch, ReplicaHeartbeat
from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.budgets.expiry import HoldTerms
from hybridroute_serve.keeper.budget_messages import (
    LEASE_CLOSE_PATH,
    LEASES_PATH,
    RESERVATIONS_PATH,
    SETTLEMENTS_PATH,
    SHARE_LEAVE_PATH,
    SHARES_PATH,
)
from hybridroute_serve.keeper.ledger_home import LEDGER_NAME
from hybridroute_serve.keeper.service import Keeper
from support.asgi_client import AsgiAnswer
from support.budgets import KeeperAsker, a_budgeted_policy, write_clients
from support.clocks import TurnedClock
from support.keepers import a_keeper_app, write_live
from support.reports import an_attempt

_SILENCE = HoldTerms().silence_seconds


@dataclass
class _Bench:
    ask: KeeperAsker
    keeper: Keeper
    directory: Path
    clock: TurnedClock
    monotonic: TurnedClock

    async def spent_and_reserved(self, client: str | None = None) -> tuple[int, int]:
        state = await self.ask.state()
        shown = state["budget"] if client is None else state["client_budgets"][client]
        return _nano(shown["spent_usd"]), _nano(shown["reserved_usd"])

    async def edit(self, **changes: Any) -> None:
        write_live(self.directory, a_budgeted_policy(**changes))
        await self.keeper.live.refresh()
        # Its own watch may have seen the file first and be at it still.
        await self.keeper.check_budgets()


def _nano(usd: str) -> int:
    return int(usd.replace(".", ""))


@pytest.fixture
async def bench(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[_Bench]:
    monotonic = TurnedClock(5_000.0)
    app = a_keeper_app(tmp_path, clock, live=a_budgeted_policy(), monotonic=monotonic)
    async with app.router.lifespan_context(app):
        yield _Bench(KeeperAsker(app), app.state.keeper, tmp_path, clock, monotonic)


async def test_a_lease_is_lent_filled_and_given_back(bench: _Bench) -> None:
    lent = await bench.ask.lease(30, refill=True)
    assert (lent["outcome"], lent["granted_nano_usd"]) == ("lent", 100), "1 % of the limit"
    assert await bench.spent_and_reserved() == (0, 100)
    again = await bench.ask.lease(0, lease_id=lent["lease_id"], granted=100, settled=40)
    assert again["granted_nano_usd"] == 100
    assert await bench.spent_and_reserved() == (40, 60)
    await bench.ask.ok(LEASE_CLOSE_PATH, {"lease_id": lent["lease_id"], "settled_nano_usd": 55})
    assert await bench.spent_and_reserved() == (55, 0)


async def test_what_a_lease_does_not_hold_is_reserved_alone(bench: _Bench) -> None:
    assert (await bench.ask.lease(101))["outcome"] == "too_large"
    assert await bench.ask.reserve("r1/llm/1", 6_000) == {"outcome": "reserved", "nano_usd": 6_000}
    denied = await bench.ask.reserve("r2/llm/1", 4_001)
    assert denied == {
        "outcome": "denied",
        "account": "route",
        "limit_nano_usd": 10_000,
        "settled_nano_usd": 0,
        "reserved_nano_usd": 6_000,
        "asked_nano_usd": 4_001,
        "resets_at": denied["resets_at"],
        "past_unknown": False,
    }
    assert denied["resets_at"] > bench.clock.now
    await bench.ask.settle("r1/llm/1", 2_000)
    await bench.ask.settle("r1/llm/1", 2_000)
    assert await bench.spent_and_reserved() == (2_000, 0)
    await bench.ask.reserve("r3/llm/1", 500)
    await bench.ask.settle("r3/llm/1", None)
    assert await bench.spent_and_reserved() == (2_500, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (SHARES_PATH, b"{}"),
        (SHARE_LEAVE_PATH, b"[]"),
        (LEASES_PATH, b'{"replica": "p1"}'),
        (LEASE_CLOSE_PATH, b'{"lease_id": 7, "settled_nano_usd": 1}'),
        (RESERVATIONS_PATH, b'{"attempt_id": "a", "replica": "p", "accounts": ["route"], "nano_usd": -1}'),
        (RESERVATIONS_PATH, b"\xff"),
        (SETTLEMENTS_PATH, b'{"attempt_id": "a", "billed_nano_usd": "1"}'),
    ],
)
async def test_bad_bodies_are_refused_and_the_token_is_asked_for(
    bench: _Bench, path: str, body: bytes
) -> None:
    assert (await bench.ask.post(path, body)).status == 400
    assert (await bench.ask.post(path, body, token="of somebody else")).status == 401
    assert await bench.spent_and_reserved() == (0, 0)


async def test_a_limit_that_is_edited_bites_at_the_next_look(bench: _Bench) -> None:
    await bench.ask.reserve("r1/llm/1", 9_000)
    assert (await bench.ask.reserve("r2/llm/1", 2_000))["outcome"] == "denied"
    await bench.edit(limit_nano_usd=11_000)
    assert (await bench.ask.reserve("r2/llm/1", 2_000))["outcome"] == "reserved"
    await bench.edit(limit_nano_usd=500)
    denied = await bench.ask.reserve("r3/llm/1", 1)
    assert (denied["limit_nano_usd"], denied["reserved_nano_usd"]) == (500, 11_000)
    await bench.edit(limit_nano_usd=None)
    assert (await bench.ask.reserve("r4/llm/1", 10**9))["outcome"] == "reserved", "nothing is budgeted"
    assert (await bench.ask.state())["budget"] is None
    await bench.edit(limit_nano_usd=12_000)
    assert await bench.spent_and_reserved() == (0, 11_000), "what was held is not forgotten"


async def test_service_resumes_when_the_window_turns(bench: _Bench) -> None:
    await bench.ask.reserve("r1/llm/1", 10_000)
    await bench.ask.settle("r1/llm/1", None)
    denied = await bench.ask.reserve("r2/llm/1", 1)
    assert denied["outcome"] == "denied"
    bench.clock.now = denied["resets_at"] - 1.0
    assert (await bench.ask.reserve("r3/llm/1", 1))["outcome"] == "denied"
    bench.clock.now = denied["resets_at"]
    assert (await bench.ask.reserve("r4/llm/1", 10_000))["outcome"] == "reserved"


async def test_clients_have_budgets_of_their_own_and_both_must_bear_it(bench: _Bench) -> None:
    keys_file = write_clients(bench.directory / "clients.yaml", {"a": "0.000003", "b": None})
    await bench.edit(keys_file=keys_file)
    both = ("route", "client:a")
    assert (await bench.ask.reserve("r1/llm/1", 2_500, accounts=both))["outcome"] == "reserved"
    denied = await bench.ask.reserve("r2/llm/1", 501, accounts=both)
    assert (denied["account"], denied["limit_nano_usd"]) == ("client:a", 3_000)
    assert await bench.spent_and_reserved() == (0, 2_500)
    assert await bench.spent_and_reserved("a") == (0, 2_500)
    unlimited = ("route", "client:b")
    assert (await bench.ask.reserve("r3/llm/1", 501, accounts=unlimited))["outcome"] == "reserved"

    write_clients(keys_file, {"a": "0.000004", "b": None})
    await bench.keeper.check_budgets()
    assert (await bench.ask.reserve("r4/llm/1", 501, accounts=both))["outcome"] == "reserved"
    keys_file.write_text("- name: [")
    await bench.keeper.check_budgets()
    assert (await bench.ask.reserve("r5/llm/1", 1_000, accounts=both))["outcome"] == "denied"
    await bench.ask.settle("r1/llm/1", 7)
    assert await bench.spent_and_reserved("a") == (7, 501)


async def test_a_lease_of_an_account_without_a_budget_is_refused_but_its_report_is_taken(
    bench: _Bench,
) -> None:
    lent = await bench.ask.lease(30)
    await bench.edit(limit_nano_usd=None)
    said = {"lease_id": lent["lease_id"], "granted_nano_usd": 30, "settled_nano_usd": 20}
    call = {
        "sequence": 2,
        "replica": "p1",
        "account": "route",
        "returned_nano_usd": 0,
        "need_nano_usd": 50,
        "refill": True,
    }
    answer = await bench.ask.post(LEASES_PATH, call | said)
    assert (answer.status, answer.json()["error"]["code"]) == (404, "account_not_found")
    await bench.edit()
    assert await bench.spent_and_reserved() == (20, 10)


async def test_a_dead_replicas_money_ends_by_its_journal(bench: _Bench) -> None:
    lease_id = (await bench.ask.lease(100))["lease_id"]
    await bench.ask.lease(0, lease_id=lease_id, granted=100, settled=10)
    await bench.ask.reserve("big/llm/1", 3_000)
    await bench.ask.reserve("lost/llm/1", 2_000)
    await bench.ask.reserve("unsent/llm/1", 1_000)
    other = (await bench.ask.lease(70, replica="p2"))["lease_id"]
    in_lease = [
        an_attempt("r1", settled_nano_usd=10, lease_ids=(lease_id,)),
        an_attempt("r2", settled_nano_usd=25, lease_ids=(lease_id, "of-a-client")),
        an_attempt("r3", outcome=Outcome.LOST, settled_nano_usd=30, lease_ids=(lease_id,)),
        an_attempt("r4", settled_nano_usd=5, lease_ids=(other,)),
    ]
    alone = [
        an_attempt("big", settled_nano_usd=900),
        an_attempt("lost", outcome=Outcome.LOST, settled_nano_usd=2_000),
    ]
    await bench.ask.report(Batch(attempts=in_lease, replica="p1"))
    await bench.ask.report(Batch(attempts=[*in_lease, *alone], replica="p1"))
    assert await bench.spent_and_reserved() == (2_910, 90 + 1_000 + 70)
    end = ReplicaHeartbeat(replica="p1", app="llm-proxy", started_at=1.0, at=2.0, ended=True)
    await bench.ask.report(Batch(heartbeats=[end], replica="p1"))
    assert await bench.spent_and_reserved() == (2_900 + 65, 70)
    for call in (bench.ask.reserve("late/llm/1", 1), bench.ask.lease(1)):
        with pytest.raises(AssertionError, match="replica p1 has ended"):
            await call
    await bench.keeper.maintain(retention=True)
    sums = await bench.keeper.read_lease_sums((lease_id, other, "of-a-client"))
    assert sums == {other: 5}, "only the leases that are out are remembered"


async def test_a_journal_that_knows_less_than_was_reported_proves_nothing(bench: _Bench) -> None:
    lease_id = (await bench.ask.lease(100))["lease_id"]
    await bench.ask.lease(0, lease_id=lease_id, granted=100, settled=10)
    end = ReplicaHeartbeat(replica="p1", app="llm-proxy", started_at=1.0, at=2.0, ended=True)
    await bench.ask.report(Batch(heartbeats=[end], replica="p1"))
    assert await bench.spent_and_reserved() == (100, 0)


async def test_who_is_silent_too_long_has_spent_everything(bench: _Bench) -> None:
    await bench.ask.lease(60)
    await bench.ask.reserve("r1/llm/1", 500)
    bench.monotonic.now += _SILENCE - 1.0
    lease_id = (await bench.ask.lease(0, replica="p2"))["lease_id"]
    assert lease_id is None
    await bench.ask.lease(40, replica="p2")
    await bench.keeper.check_budgets()
    assert await bench.spent_and_reserved() == (0, 600)
    bench.monotonic.now += 1.0
    await bench.keeper.check_budgets()
    assert await bench.spent_and_reserved() == (560, 40)


async def test_a_lost_ledger_means_exhausted_until_that_past_no_longer_counts(bench: _Bench) -> None:
    await bench.ask.reserve("r1/llm/1", 100)
    for path in (bench.directory / "state").glob(f"{LEDGER_NAME}*"):
        path.unlink()
    denied = await bench.ask.reserve("r2/llm/1", 1)
    assert (denied["outcome"], denied["past_unknown"]) == ("denied", True)
    assert (await bench.ask.state())["budget"]["past_unknown"] is True
    bench.clock.now += 3 * 3_600.0
    await bench.keeper.check_budgets()
    assert (await bench.ask.reserve("r3/llm/1", 1))["outcome"] == "denied", "leases may still be out"
    bench.monotonic.now += _SILENCE
    await bench.keeper.check_budgets()
    bench.clock.now += 2 * 3_600.0
    await bench.keeper.check_budgets()
    assert (await bench.ask.reserve("r4/llm/1", 1))["outcome"] == "reserved"


async def test_a_ledger_that_is_lost_between_two_lives_means_exhausted(
    tmp_path: Path, clock: TurnedClock
) -> None:
    for life in range(2):
        app = a_keeper_app(tmp_path, clock, live=a_budgeted_policy())
        async with app.router.lifespan_context(app):
            budget = (await KeeperAsker(app).state())["budget"]
            assert budget["past_unknown"] is (life == 1)
        for path in (tmp_path / "state").glob(f"{LEDGER_NAME}*"):
            path.unlink()


async def test_a_restart_forgets_nothing(tmp_path: Path, clock: TurnedClock) -> None:
    app = a_keeper_app(tmp_path, clock, live=a_budgeted_policy())
    async with app.router.lifespan_context(app):
        ask = KeeperAsker(app)
        lent = await ask.lease(50)
        await ask.reserve("r1/llm/1", 4_000)
        await ask.reserve("r2/llm/1", 1_000)
        await ask.settle("r2/llm/1", 300)
    app = a_keeper_app(tmp_path, clock)
    async with app.router.lifespan_context(app):
        ask = KeeperAsker(app)
        shown = (await ask.state())["budget"]
        assert (_nano(shown["spent_usd"]), _nano(shown["reserved_usd"])) == (300, 4_050)
        again = await ask.lease(0, lease_id=lent["lease_id"], granted=50, settled=20)
        assert again["outcome"] == "lent"
        await ask.settle("r1/llm/1", 10)
        shown = (await ask.state())["budget"]
        assert (_nano(shown["spent_usd"]), _nano(shown["reserved_usd"])) == (330, 30)


async def test_a_keeper_that_was_replaced_grants_nothing(bench: _Bench) -> None:
    lent = await bench.ask.lease(30, refill=True)
    newer = a_keeper_app(bench.directory, bench.clock)
    async with newer.router.lifespan_context(newer):
        answers: list[AsgiAnswer] = [
            await bench.ask.share("p1"),
            await bench.ask.post(
                RESERVATIONS_PATH,
                {"attempt_id": "r1/llm/1", "replica": "p1", "accounts": ["route"], "nano_usd": 1},
            ),
            await bench.ask.post(LEASE_CLOSE_PATH, {"lease_id": lent["lease_id"], "settled_nano_usd": 1}),
        ]
        for answer in answers:
            assert (answer.status, answer.json()["error"]["code"]) == (503, "keeper_superseded")
        assert (await bench.ask.get("/healthz")).status == 503
        await bench.keeper.check_budgets()
        shown = (await KeeperAsker(newer).state())["budget"]
        assert (_nano(shown["spent_usd"]), _nano(shown["reserved_usd"])) == (0, 100)
        assert (await KeeperAsker(newer).reserve("r2/llm/1", 1))["outcome"] == "reserved"


async def test_a_replaced_keeper_notices_without_being_asked_to_write(bench: _Bench) -> None:
    newer = a_keeper_app(bench.directory, bench.clock)
    async with newer.router.lifespan_context(newer):
        await bench.keeper.check_budgets()
        assert (await bench.ask.post(LEASES_PATH, b"{}")).status == 400
        assert bench.keeper.superseded is not None
        with pytest.raises(AssertionError, match="keeper_superseded"):
            await bench.ask.lease(0)


async def test_without_a_policy_or_a_readable_list_of_clients_nothing_is_granted(
    tmp_path: Path, clock: TurnedClock
) -> None:
    keys_file = tmp_path / "clients.yaml"
    app = a_keeper_app(tmp_path, clock, live=a_budgeted_policy(keys_file=keys_file))
    async with app.router.lifespan_context(app):
        ask = KeeperAsker(app)
        with pytest.raises(AssertionError, match="starting"):
            await ask.reserve("r1/llm/1", 1)
        assert (await ask.state())["budget"] is None
        write_clients(keys_file, {"a": "1.00"})
        await app.state.keeper.check_budgets()
        assert (await ask.reserve("r1/llm/1", 1))["outcome"] == "reserved"


async def test_metrics_tell_of_budgets(bench: _Bench) -> None:
    await bench.edit(limit_nano_usd=2_000_000_000)
    await bench.ask.reserve("r1/llm/1", 1_500_000_000)
    await bench.ask.settle("r1/llm/1", 500_000_000)
    await bench.ask.reserve("r2/llm/1", 250_000_000)
    for number in range(3):
        await bench.ask.reserve(f"d{number}/llm/1", 2_000_000_000)
    await bench.keeper.check_budgets()
    page = (await bench.ask.get("/metrics")).body.decode()
    labels = '{account="route",route="support"}'
    assert f"hybridroute_budget_limit_usd{labels} 2.0" in page
    assert f"hybridroute_budget_spent_usd{labels} 0.5" in page
    assert f"hybridroute_budget_reserved_usd{labels} 0.25" in page
    assert f"hybridroute_budget_past_unknown{labels} 0.0" in page
    assert f"hybridroute_budget_denied_total{labels} 3.0" in page
