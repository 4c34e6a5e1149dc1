"""The llm-proxy's side of dollars against a keeper over HTTP: away, back, cancelled, given back."""

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from starlette.applications import Starlette

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.budgets.expiry import HoldTerms
from hybridroute_serve.keeper.budget_client import Denied, DeniedReason, DollarAccounts, Reservation
from hybridroute_serve.keeper.budget_messages import LEASES_PATH, RESERVATIONS_PATH, SETTLEMENTS_PATH
from hybridroute_serve.keeper.calls import AWAY_SECONDS, KeeperAwayError, KeeperCalls
from hybridroute_serve.keeper.ledger_home import LEDGER_NAME
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send, send_answer, serve_lifespan
from support.budgets import KeeperAsker, a_budgeted_policy, write_clients
from support.clocks import TurnedClock
from support.eventually import eventually
from support.keepers import TOKEN, a_keeper_app, write_live
from support.serving import free_port, running

_LEASE_SECONDS = HoldTerms().lease_seconds


class _Gate:
    """Before the keeper: counts requests by path, and holds the answers of one path while it is closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.open = asyncio.Event()
        self.open.set()
        self.holds = ""
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.seen.append(scope["path"])

        async def hold_and_send(message: object) -> None:
            if scope["path"] == self.holds:
                await self.open.wait()
            await send(message)  # type: ignore[arg-type]

        await self._app(scope, receive, hold_and_send)


@dataclass
class _Bench:
    app: Starlette
    ask: KeeperAsker
    gate: _Gate
    accounts: DollarAccounts
    session: aiohttp.ClientSession
    clock: TurnedClock
    directory: Path

    async def budget(self) -> tuple[int, int]:
        shown = (await self.ask.state())["budget"]
        spent, reserved = (int(shown[name].replace(".", "")) for name in ("spent_usd", "reserved_usd"))
        return spent, reserved

    async def follow(self, policy: LivePolicy) -> None:
        write_live(self.directory, policy)
        keeper = self.app.state.keeper
        await keeper.live.refresh()
        await keeper.check_budgets()
        await self.accounts.follow(policy)


@pytest.fixture
async def bench(tmp_path: Path, clock: TurnedClock) -> AsyncIterator[_Bench]:
    policy = a_budgeted_policy()
    app = a_keeper_app(tmp_path, clock, live=policy)
    gate = _Gate(app)
    monotonic = TurnedClock(7_000.0)
    async with running(gate) as url, aiohttp.ClientSession() as session:
        accounts = DollarAccounts(session, url, TOKEN, "p1", monotonic=monotonic)
        await accounts.follow(policy)
        yield _Bench(app, KeeperAsker(app), gate, accounts, session, monotonic, tmp_path)
        gate.open.set()
        await accounts.stop()


def _reserved(answer: Reservation | Denied) -> Reservation:
    assert isinstance(answer, Reservation), answer
    return answer


def _denied(answer: Reservation | Denied) -> Denied:
    assert isinstance(answer, Denied), answer
    return answer


async def test_most_attempts_are_paid_from_the_lease_in_hand(bench: _Bench) -> None:
    first = _reserved(await bench.accounts.reserve("r1/llm/1", None, 30))
    assert first.valid_until == bench.clock.now + _LEASE_SECONDS
    assert len(first.lease_ids) == 1
    # No more than half of the lease: it is not refilled meanwhile, which would report what is settled.
    _reserved(await bench.accounts.reserve("more/llm/1", None, 20))
    assert bench.gate.seen.count(LEASES_PATH) == 1
    assert bench.accounts.settle(first, 12) == 12
    assert bench.accounts.settle(_reserved(await bench.accounts.reserve("r2/llm/1", None, 5)), None) == 5
    assert await bench.budget() == (0, 100)


async def test_what_a_lease_does_not_hold_is_reserved_and_settled_at_the_keeper(bench: _Bench) -> None:
    big = _reserved(await bench.accounts.reserve("r1/llm/1", None, 6_000))
    assert (big.lease_ids, big.at_keeper) == ((), True)
    assert bench.accounts.settle(big, 1_500) == 1_500
    bench.accounts.release(_reserved(await bench.accounts.reserve("r2/llm/1", None, 8_000)))

    async def is_settled() -> bool:
        return await bench.budget() == (1_500, 0)

    await eventually(is_settled)


async def test_a_denial_says_when_to_come_again(bench: _Bench) -> None:
    denied = _denied(await bench.accounts.reserve("r1/llm/1", None, 10_001))
    assert (denied.account, denied.reason, denied.asked_nano_usd) == ("route", DeniedReason.EXHAUSTED, 10_001)
    assert denied.resets_at is not None
    for path in (bench.directory / "state").glob(f"{LEDGER_NAME}*"):
        path.unlink()
    bench.clock.now += 2.0
    denied = _denied(await bench.accounts.reserve("r2/llm/1", None, 1))
    assert denied.reason is DeniedReason.PAST_UNKNOWN


async def test_where_nothing_is_budgeted_no_keeper_is_needed(bench: _Bench) -> None:
    await bench.follow(a_budgeted_policy(limit_nano_usd=None))
    assert not bench.accounts.is_budgeted(None)
    free = _reserved(await bench.accounts.reserve("r1/llm/1", "a", 10**12))
    assert (free.valid_until, free.lease_ids) == (math.inf, ())
    assert bench.accounts.settle(free, None) == 10**12
    assert bench.gate.seen == []


async def test_a_client_pays_from_both_accounts_or_from_neither(bench: _Bench) -> None:
    keys_file = write_clients(bench.directory / "clients.yaml", {"a": "0.000003", "b": None})
    await bench.follow(a_budgeted_policy(keys_file=keys_file))
    both = _reserved(await bench.accounts.reserve("r1/llm/1", "a", 10))
    assert len(both.lease_ids) == 2
    assert len(_reserved(await bench.accounts.reserve("r2/llm/1", "b", 10)).lease_ids) == 1
    denied = _denied(await bench.accounts.reserve("r3/llm/1", "a", 3_001))
    assert denied.account == "client:a"
    write_clients(keys_file, {"a": None, "b": None})
    await bench.app.state.keeper.check_budgets()
    bench.clock.now += 2.0
    reservation = _reserved(await bench.accounts.reserve("r4/llm/1", "a", 3_001))
    bench.accounts.release(reservation)


async def test_without_the_keeper_the_lease_in_hand_is_used_up(tmp_path: Path, clock: TurnedClock) -> None:
    policy, port, monotonic = a_budgeted_policy(), free_port(), TurnedClock(7_000.0)
    async with aiohttp.ClientSession() as session:
        accounts = DollarAccounts(session, f"http://127.0.0.1:{port}", TOKEN, "p1", monotonic=monotonic)
        await accounts.follow(policy)
        assert _denied(await accounts.reserve("r0/llm/1", None, 1)).reason is DeniedReason.KEEPER_AWAY
        monotonic.now += AWAY_SECONDS
        async with running(a_keeper_app(tmp_path, clock, live=policy), port):
            _reserved(await accounts.reserve("r1/llm/1", None, 40))
        last = _reserved(await accounts.reserve("r2/llm/1", None, 60))
        denied = _denied(await accounts.reserve("r3/llm/1", None, 1))
        assert (denied.reason, denied.resets_at) == (DeniedReason.KEEPER_AWAY, None)
        accounts.settle(last, 20)
        held = _reserved(await accounts.reserve("r4/llm/1", None, 40))
        assert accounts.is_valid(held)
        monotonic.now += _LEASE_SECONDS
        assert not accounts.is_valid(held), "the keeper may have counted it as spent"
        accounts.release(held)
        assert _denied(await accounts.reserve("r5/llm/1", None, 1)).reason is DeniedReason.KEEPER_AWAY
        monotonic.now += AWAY_SECONDS
        app = a_keeper_app(tmp_path, clock)
        async with running(app, port):
            _reserved(await accounts.reserve("r6/llm/1", None, 1))
            await accounts.stop()
            budget = (await KeeperAsker(app).state())["budget"]
        assert budget["reserved_usd"] == "0.000000100", "r1 and r6 are held: their journal will tell"


async def test_what_is_given_back_at_the_end_is_exact(bench: _Bench) -> None:
    await bench.accounts.start()
    bench.accounts.settle(_reserved(await bench.accounts.reserve("r1/llm/1", None, 30)), 11)
    bench.accounts.settle(_reserved(await bench.accounts.reserve("r2/llm/1", None, 5_000)), 4_000)
    await bench.accounts.stop()
    assert await bench.budget() == (4_011, 0)


async def test_a_client_that_leaves_while_it_waits_leaves_nothing_reserved(bench: _Bench) -> None:
    bench.gate.holds = RESERVATIONS_PATH
    bench.gate.open.clear()
    waiting = asyncio.create_task(bench.accounts.reserve("r1/llm/1", None, 5_000))

    async def is_reserved() -> bool:
        return await bench.budget() == (0, 5_000)

    await eventually(is_reserved)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    bench.gate.open.set()

    async def is_free() -> bool:
        return await bench.budget() == (0, 0)

    await eventually(is_free)
    assert SETTLEMENTS_PATH in bench.gate.seen


async def test_those_who_wait_together_are_asked_for_together(bench: _Bench) -> None:
    bench.gate.holds = LEASES_PATH
    bench.gate.open.clear()
    waiting = [
        asyncio.create_task(bench.accounts.reserve(f"r{number}/llm/1", None, 5)) for number in range(20)
    ]

    async def first_is_asked_for() -> bool:
        return LEASES_PATH in bench.gate.seen

    await eventually(first_is_asked_for)
    bench.gate.open.set()
    answers = await asyncio.gather(*waiting)
    assert all(isinstance(answer, Reservation) for answer in answers)
    assert bench.gate.seen.count(LEASES_PATH) <= 2
    assert bench.gate.seen.count(RESERVATIONS_PATH) == 0


async def test_a_keeper_that_is_away_is_asked_by_one_at_a_time() -> None:
    seen: list[str] = []
    status, answers = 500, asyncio.Event()
    answers.set()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, start=_nothing, stop=_nothing)
            return
        seen.append(scope["path"])
        await answers.wait()
        await send_answer(send, status, b"{}")

    clock = TurnedClock()
    async with running(app) as url, aiohttp.ClientSession() as session:
        calls = KeeperCalls(session, url, TOKEN, clock)
        for _ in range(3):
            with pytest.raises(KeeperAwayError):
                await calls.post("/x", {})
        assert len(seen) == 1
        clock.now += AWAY_SECONDS
        status = 200
        answers.clear()
        probe = asyncio.create_task(calls.post("/probe", {}))

        async def is_asked() -> bool:
            return "/probe" in seen

        await eventually(is_asked)
        with pytest.raises(KeeperAwayError):
            await calls.post("/x", {})
        answers.set()
        assert await probe == b"{}"
        assert await calls.post("/x", {}) == b"{}"


async def _nothing() -> None:
    pass
