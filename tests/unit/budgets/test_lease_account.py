"""The replica's side, alone and against the ledger."""

from dataclasses import replace

import pytest

from hybridroute_serve.budgets.lease_account import Hold, LeaseAccount, hold_from_all, release_all, settle_all
from hybridroute_serve.budgets.ledger import LeaseAnswer, LeaseOutcome
from support.budget_world import HOLD_TERMS, ROUTE, World

LENT_100 = LeaseAnswer(LeaseOutcome.LENT, "L.1", 100, give_back=False)


def account_with(answer: LeaseAnswer = LENT_100, *, at: float = 0.0) -> LeaseAccount:
    account = LeaseAccount(replica="r1", account="route", lease_seconds=120.0)
    account.apply(answer, account.call(at))
    return account


def must_hold(account: LeaseAccount, nano_usd: int, now: float = 1.0) -> Hold:
    hold = account.hold(nano_usd, now)
    assert hold is not None
    return hold


def test_a_new_account_has_nothing_and_calls_at_once() -> None:
    account = LeaseAccount(replica="r1", account="route", lease_seconds=120.0)
    assert account.hold(0, 1.0) is None
    assert account.is_call_due(0.0)
    assert account.call(0.0, needed_nano_usd=70).need_nano_usd == 70


def test_holds_come_out_of_the_lease_and_settle_by_what_was_billed() -> None:
    account = account_with()
    hold = must_hold(account, 80)
    assert hold == Hold("L.1", 80, 120.0)
    assert account.hold(21, 1.0) is None
    account.settle(hold, 30)
    assert account.available(1.0) == 70
    account.settle(must_hold(account, 10), None)
    account.release(must_hold(account, 60))
    assert account.available(1.0) == 60
    call = account.call(2.0, needed_nano_usd=90)
    assert (call.granted_nano_usd, call.settled_nano_usd, call.need_nano_usd) == (100, 40, 30)


def test_it_asks_for_more_before_it_runs_out_and_renews_in_time() -> None:
    account = account_with()
    assert not account.is_call_due(1.0)
    must_hold(account, 50)
    assert not account.is_call_due(1.0)
    must_hold(account, 1)
    assert account.is_call_due(1.0)
    assert account_with().is_call_due(40.0)


def test_it_reports_what_was_settled_within_a_second_and_again_if_nobody_answered() -> None:
    account = account_with()
    account.settle(must_hold(account, 10, 0.1), 5)
    assert not account.is_call_due(0.5)
    assert account.is_call_due(1.0)
    call = account.call(1.0)
    assert not account.is_call_due(2.5)
    account.call_failed(call)
    assert account.is_call_due(2.5)


def test_without_the_keeper_the_lease_is_used_up_and_runs_out() -> None:
    account = account_with(at=10.0)
    account.call(50.0)
    must_hold(account, 60, 129.9)
    assert account.hold(41, 129.9) is None
    assert account.hold(1, 130.0) is None
    assert account.available(130.0) == 0


def test_a_renewed_lease_brings_back_what_was_not_spent() -> None:
    account = account_with()
    assert account.hold(10, 200.0) is None
    call = account.call(200.0, needed_nano_usd=10)
    assert call.need_nano_usd == 0
    account.apply(LENT_100, call)
    assert must_hold(account, 10, 201.0).valid_until == 320.0


def test_near_the_limit_it_gives_back_all_but_what_is_waited_for() -> None:
    account = account_with(replace(LENT_100, give_back=True))
    held = must_hold(account, 30)
    assert account.is_call_due(1.0)
    call = account.call(1.0, needed_nano_usd=20)
    assert (call.returned_nano_usd, call.need_nano_usd, call.refill) == (50, 0, False)
    assert account.available(1.0) == 20
    account.settle(held, 10)
    assert account.call(2.0).returned_nano_usd == 90


def test_the_answer_to_an_overtaken_call_is_dropped() -> None:
    account = account_with()
    overtaken, latest = account.call(1.0), account.call(2.0)
    account.apply(replace(LENT_100, granted_nano_usd=900), overtaken)
    account.apply(LeaseAnswer(LeaseOutcome.CLOSED, "L.1", 0, give_back=False), overtaken)
    assert account.available(2.0) == 100
    account.apply(replace(LENT_100, granted_nano_usd=130), latest)
    assert account.available(2.0) == 130


def test_a_closed_lease_is_forgotten_and_what_was_held_of_it_is_not_counted_again() -> None:
    account = account_with()
    hold = must_hold(account, 40)
    account.apply(LeaseAnswer(LeaseOutcome.CLOSED, "L.1", 0, give_back=False), account.call(1.0))
    assert account.lease_id is None
    assert account.hold(1, 1.0) is None
    account.apply(replace(LENT_100, lease_id="L.2"), account.call(2.0))
    account.settle(hold, 15)
    assert account.available(2.0) == 100


def test_an_overrun_is_taken_from_what_is_left() -> None:
    account = account_with()
    account.settle(must_hold(account, 100), 130)
    assert account.available(1.0) == -30
    assert account.call(1.0, needed_nano_usd=10).need_nano_usd == 40


def test_several_accounts_are_held_from_together_or_not_at_all() -> None:
    route, client = account_with(), account_with(replace(LENT_100, lease_id="L.2", granted_nano_usd=20))
    assert hold_from_all([route, client], 30, 1.0) is None
    assert (route.available(1.0), client.available(1.0)) == (100, 20)
    holds = hold_from_all([route, client], 15, 1.0)
    assert holds is not None
    settle_all([route, client], holds, 5)
    assert (route.available(1.0), client.available(1.0)) == (95, 15)
    holds = hold_from_all([route, client], 15, 1.0)
    assert holds is not None
    release_all([route, client], holds)
    assert (route.available(1.0), client.available(1.0)) == (95, 15)


def test_the_final_sum_is_known_when_nothing_is_held() -> None:
    account = account_with()
    hold = must_hold(account, 40)
    with pytest.raises(RuntimeError, match="still held"):
        account.final_settled_nano_usd()
    account.settle(hold, 25)
    assert account.final_settled_nano_usd() == 25


def one_holder() -> World:
    world = World(window="2m")
    world.replica_joins()
    world.replica_calls(0, ROUTE, "answered")
    return world


def test_a_stopped_holder_does_not_spend_what_was_counted_as_spent_and_forgotten_since() -> None:
    world = one_holder()
    world.replica_is_stopped_or_goes_on(0)
    world.time_passes(HOLD_TERMS.silence_seconds)
    world.keeper_sweeps()
    world.time_passes(200.0)
    world.keeper_starts()
    world.keeper_crashes()
    world.replica_is_stopped_or_goes_on(0)
    assert not world.wants_attempt(0, 90, 90, client=False, fate="answered")
    world.attempt_is_sent(0)
    world.attempt_ends(0, usage_seen=True)
    world.check()


def test_what_was_held_before_the_stop_is_not_sent_after_it() -> None:
    world = one_holder()
    assert world.wants_attempt(0, 90, 90, client=False, fate="answered")
    world.replica_is_stopped_or_goes_on(0)
    world.time_passes(HOLD_TERMS.silence_seconds)
    world.keeper_sweeps()
    world.time_passes(200.0)
    world.keeper_starts()
    world.replica_is_stopped_or_goes_on(0)
    world.attempt_is_sent(0)
    assert world.bills == 0
    world.check()


def test_a_clock_step_ends_no_lease_that_can_still_be_spent() -> None:
    world = one_holder()
    world.time_passes(40.0)
    world.wall_clock_steps(3_600.0)
    world.keeper_sweeps()
    world.limits_change(20_000, 4_000)
    world.wall_clock_steps(3_600.0)
    world.limits_change(10_000, 4_000)
    assert world.wants_attempt(0, 90, 90, client=False, fate="answered")
    world.attempt_is_sent(0)
    world.attempt_ends(0, usage_seen=True)
    assert world.bills == 1
    world.check()
