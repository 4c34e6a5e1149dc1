"""The ledger, one operation at a time."""

from dataclasses import replace

import pytest

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.ledger import (
    Claim,
    Denied,
    LeaseCall,
    LeaseOutcome,
    LedgerState,
    Reserved,
    Settlement,
    UnknownAccountError,
    age_lost_past,
    change_terms,
    close_lease,
    exhausted_ledger,
    fresh_ledger,
    lease,
    reclaim_lease,
    release,
    reserve,
    settle,
    standing,
)

NOON = 1_750_000_000.0 // 86_400 * 86_400 + 43_200
HOUR = 3_600.0
DAY = AccountTerms(10_000, "1d@UTC")
TERMS = {"route": DAY, "client:a": replace(DAY, limit_nano_usd=1_000)}
EMPTY = fresh_ledger("life", TERMS, NOON)
CALL = LeaseCall(
    sequence=1,
    replica="r1",
    account="route",
    lease_id=None,
    granted_nano_usd=0,
    settled_nano_usd=0,
    returned_nano_usd=0,
    need_nano_usd=0,
    refill=True,
)


def claim(nano_usd: int, *accounts: str, attempt_id: str = "q/llm/1") -> Claim:
    return Claim(attempt_id, "r1", accounts or ("route",), nano_usd)


def numbers(state: LedgerState, account: str = "route", now: float = NOON) -> tuple[int, int]:
    found = standing(state, account, now)
    return found.settled_nano_usd, found.reserved_nano_usd


def spent(nano_usd: int, account: str = "route") -> LedgerState:
    state, _ = reserve(EMPTY, claim(nano_usd, account), NOON)
    return settle(state, "q/llm/1", nano_usd, NOON)[0]


def test_reserve_then_settle_by_what_was_billed() -> None:
    state, answer = reserve(EMPTY, claim(400), NOON)
    assert answer == Reserved(400)
    assert numbers(state) == (0, 400)
    state, settlement = settle(state, "q/llm/1", 250, NOON)
    assert settlement == Settlement(400, 250)
    assert numbers(state) == (250, 0)


def test_no_usage_settles_all_and_an_attempt_that_was_not_sent_nothing() -> None:
    state, _ = reserve(EMPTY, claim(400), NOON)
    assert numbers(settle(state, "q/llm/1", None, NOON)[0]) == (400, 0)
    assert numbers(release(state, "q/llm/1", NOON)[0]) == (0, 0)


def test_repeated_messages_change_nothing() -> None:
    state, _ = reserve(EMPTY, claim(400), NOON)
    assert reserve(state, claim(400), NOON) == (state, Reserved(400))
    state, _ = settle(state, "q/llm/1", 250, NOON)
    assert settle(state, "q/llm/1", 300, NOON) == (state, None)


def test_the_limit_can_be_reserved_to_the_last_nano_dollar_and_not_past_it() -> None:
    state, answer = reserve(EMPTY, claim(10_000), NOON)
    assert answer == Reserved(10_000)
    state, answer = reserve(state, claim(1, attempt_id="q/llm/2"), NOON)
    assert answer == Denied(
        account="route",
        limit_nano_usd=10_000,
        settled_nano_usd=0,
        reserved_nano_usd=10_000,
        asked_nano_usd=1,
        resets_at=NOON + 12 * HOUR,
        past_unknown=False,
    )


def test_accounts_are_reserved_from_together_or_not_at_all() -> None:
    state, answer = reserve(EMPTY, claim(1_001, "route", "client:a"), NOON)
    assert isinstance(answer, Denied)
    assert answer.account == "client:a"
    assert numbers(state) == numbers(state, "client:a") == (0, 0)
    state, _ = reserve(state, claim(900, "route", "client:a"), NOON)
    state, _ = settle(state, "q/llm/1", 300, NOON)
    assert numbers(state) == numbers(state, "client:a") == (300, 0)


def test_more_billed_than_bounded_is_settled_and_said() -> None:
    state, _ = reserve(EMPTY, claim(100), NOON)
    state, settlement = settle(state, "q/llm/1", 130, NOON)
    assert settlement is not None
    assert settlement.overrun_nano_usd == 30
    assert numbers(state) == (130, 0)


def test_claims_that_make_no_sense_are_errors() -> None:
    with pytest.raises(ValueError, match="cannot reserve"):
        reserve(EMPTY, claim(-1), NOON)
    with pytest.raises(UnknownAccountError):
        reserve(EMPTY, claim(1, "client:nobody"), NOON)


def test_a_new_window_opens_the_account_and_what_is_open_counts_in_it() -> None:
    state, _ = reserve(spent(9_000), claim(500, attempt_id="late"), NOON)
    tomorrow = NOON + 13 * HOUR
    assert numbers(state, now=tomorrow) == (0, 500)
    state, _ = settle(state, "late", 500, tomorrow)
    assert numbers(state, now=tomorrow) == (500, 0)


def test_a_clock_that_steps_back_does_not_bring_an_old_window_back() -> None:
    tomorrow = NOON + 13 * HOUR
    state, _ = reserve(spent(9_000), claim(500, attempt_id="next"), tomorrow)
    state, _ = settle(state, "next", 500, NOON)
    assert numbers(state, now=NOON) == (500, 0)
    assert numbers(state, now=tomorrow) == (500, 0)


def test_a_rolling_window_forgets_by_and_by() -> None:
    state = fresh_ledger("life", {"route": AccountTerms(1_000, "24h")}, NOON)
    for hour, attempt_id in ((0.0, "a"), (10.0, "b")):
        state, _ = reserve(state, claim(500, attempt_id=attempt_id), NOON + hour * HOUR)
        state, _ = settle(state, attempt_id, 500, NOON + hour * HOUR)
    assert standing(state, "route", NOON + 10 * HOUR).resets_at == NOON + 25 * HOUR
    assert numbers(state, now=NOON + 24.9 * HOUR) == (1_000, 0)
    assert numbers(state, now=NOON + 25 * HOUR) == (500, 0)
    assert numbers(state, now=NOON + 35 * HOUR) == (0, 0)


def test_a_lease_is_at_most_a_hundredth_of_the_limit_and_counts_until_returned() -> None:
    state, answer = lease(EMPTY, CALL, NOON)
    assert (answer.outcome, answer.granted_nano_usd, answer.give_back) == (LeaseOutcome.LENT, 100, False)
    assert numbers(state) == (0, 100)
    report = replace(CALL, lease_id=answer.lease_id, granted_nano_usd=100, settled_nano_usd=30, refill=False)
    state, _ = lease(state, report, NOON)
    assert numbers(state) == (30, 70)
    state, _ = lease(state, replace(report, returned_nano_usd=70), NOON)
    assert numbers(state) == (30, 0)


def test_a_need_past_the_lease_is_reserved_at_the_keeper() -> None:
    state, answer = lease(EMPTY, replace(CALL, need_nano_usd=101), NOON)
    assert answer.outcome is LeaseOutcome.TOO_LARGE
    assert state == EMPTY


def test_a_lost_answer_is_not_paid_for_twice() -> None:
    state, _ = lease(EMPTY, replace(CALL, need_nano_usd=60, refill=False), NOON)
    again, answer = lease(state, replace(CALL, need_nano_usd=60, refill=False), NOON)
    assert again == state
    assert answer.granted_nano_usd == 60


def test_late_reports_do_not_undo_newer_ones() -> None:
    state, answer = lease(EMPTY, CALL, NOON)
    newer = replace(CALL, lease_id=answer.lease_id, granted_nano_usd=100, settled_nano_usd=90, refill=False)
    state, _ = lease(state, newer, NOON)
    assert lease(state, replace(newer, settled_nano_usd=20), NOON)[0] == state


def test_near_the_limit_a_lease_holds_what_is_needed_and_the_rest_is_called_back() -> None:
    state = spent(9_850)
    _, answer = lease(state, CALL, NOON)
    assert (answer.granted_nano_usd, answer.lease_id, answer.give_back) == (0, None, False)
    state, answer = lease(state, replace(CALL, need_nano_usd=60), NOON)
    assert (answer.granted_nano_usd, answer.give_back) == (60, True)
    call = replace(CALL, lease_id=answer.lease_id, granted_nano_usd=60, need_nano_usd=91)
    _, answer = lease(state, call, NOON)
    assert answer.outcome is LeaseOutcome.EXHAUSTED
    assert answer.denied is not None
    assert (answer.denied.reserved_nano_usd, answer.denied.asked_nano_usd) == (60, 91)


def test_a_report_on_an_exhausted_account_is_taken() -> None:
    state, answer = lease(EMPTY, CALL, NOON)
    state = change_terms(state, {"route": replace(DAY, limit_nano_usd=0)}, NOON)
    report = replace(CALL, lease_id=answer.lease_id, granted_nano_usd=100, settled_nano_usd=40)
    state, answer = lease(state, report, NOON)
    assert (answer.outcome, answer.granted_nano_usd, answer.give_back) == (LeaseOutcome.LENT, 100, True)
    assert numbers(state) == (40, 60)


def test_leases_end_with_their_sum_or_as_spent() -> None:
    state, answer = lease(EMPTY, CALL, NOON)
    assert answer.lease_id is not None
    assert numbers(close_lease(state, answer.lease_id, 30, NOON)) == (30, 0)
    gone = reclaim_lease(state, answer.lease_id, NOON)
    assert numbers(gone) == (100, 0)
    assert close_lease(gone, answer.lease_id, 30, NOON) == gone
    assert reclaim_lease(gone, answer.lease_id, NOON) == gone
    report = replace(CALL, lease_id=answer.lease_id, granted_nano_usd=100, settled_nano_usd=30)
    state, answer = lease(gone, report, NOON)
    assert state == gone
    assert answer.outcome is LeaseOutcome.CLOSED


def test_after_a_cut_nothing_more_is_granted_and_the_overshoot_is_what_was_out() -> None:
    state, _ = reserve(spent(5_000), claim(700, attempt_id="open"), NOON)
    state, answer = lease(state, CALL, NOON)
    assert answer.lease_id is not None
    state = change_terms(state, TERMS | {"route": replace(DAY, limit_nano_usd=5_000)}, NOON)
    assert isinstance(reserve(state, claim(1, attempt_id="more"), NOON)[1], Denied)
    assert lease(state, replace(CALL, need_nano_usd=150), NOON)[1].outcome is LeaseOutcome.EXHAUSTED
    state, _ = settle(state, "open", None, NOON)
    state = reclaim_lease(state, answer.lease_id, NOON)
    assert numbers(state) == (5_000 + 700 + 100, 0)


def test_a_raised_limit_bites_at_once() -> None:
    state = change_terms(spent(10_000), {"route": replace(DAY, limit_nano_usd=10_001)}, NOON)
    assert reserve(state, claim(1), NOON)[1] == Reserved(1)


def test_another_kind_of_window_forgives_nothing() -> None:
    state = change_terms(spent(9_000), {"route": AccountTerms(10_000, "month")}, NOON)
    assert numbers(state) == (9_000, 0)
    state = change_terms(state, {"route": AccountTerms(10_000, "24h")}, NOON)
    assert numbers(state) == (9_000, 0)


def test_an_account_that_goes_and_comes_back_has_not_forgotten() -> None:
    state = change_terms(spent(900, "client:a"), {"route": DAY}, NOON)
    state = change_terms(state, TERMS, NOON)
    assert numbers(state, "client:a") == (900, 0)


def test_an_account_that_goes_stays_while_money_is_out_and_then_is_forgotten() -> None:
    state, _ = reserve(EMPTY, claim(10, "client:a"), NOON)
    state, answer = lease(state, replace(CALL, account="client:a"), NOON)
    assert answer.lease_id is not None
    state = change_terms(state, {"route": DAY}, NOON)
    state, _ = settle(state, "q/llm/1", None, NOON)
    state = close_lease(state, answer.lease_id, 0, NOON)
    state = change_terms(state, {"route": DAY}, NOON)
    assert set(state.accounts) == {"route", "client:a"}
    state = change_terms(state, {"route": DAY}, NOON + 24 * HOUR)
    assert set(state.accounts) == {"route"}


def test_a_lost_store_means_exhausted_until_a_window_has_passed() -> None:
    state = exhausted_ledger("life 2", TERMS, NOON)
    _, answer = reserve(state, claim(1), NOON)
    assert isinstance(answer, Denied)
    assert answer.past_unknown
    assert answer.resets_at == NOON + 12 * HOUR
    state = age_lost_past(state, NOON)
    assert isinstance(reserve(age_lost_past(state, NOON + 11 * HOUR), claim(1), NOON)[1], Denied)
    assert reserve(age_lost_past(state, NOON + 12 * HOUR), claim(1), NOON)[1] == Reserved(1)


def test_leases_lost_with_their_store_are_not_taken_for_new_ones() -> None:
    state, answer = lease(EMPTY, CALL, NOON)
    lost_id = answer.lease_id
    again, answer = lease(fresh_ledger("life 2", TERMS, NOON), CALL, NOON)
    assert answer.lease_id != lost_id
    report = replace(CALL, lease_id=lost_id, granted_nano_usd=100, settled_nano_usd=50)
    assert lease(again, report, NOON)[1].outcome is LeaseOutcome.CLOSED
    assert state != again
