"""One bucket on a virtual clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridroute_serve.retries.bucket import BucketCounters, BucketShare, RetryBucket

FOREVER = 1e12


def bucket_with(floor: float, cap: float, *, expires_at: float = FOREVER) -> RetryBucket:
    bucket = RetryBucket(ratio=0.1, now=0.0)
    bucket.apply_share(BucketShare(floor, cap, expires_at), 0.0)
    return bucket


def test_a_new_replica_has_no_tokens_and_earns_none_without_a_share() -> None:
    bucket = RetryBucket(ratio=0.1, now=5.0)
    for _ in range(100):
        bucket.deposit_success(6.0)
    assert bucket.tokens(1_000.0) == 0
    assert not bucket.try_withdraw(1.0, 1_000.0)


def test_successes_and_the_floor_fill_it_up_to_its_cap() -> None:
    bucket = bucket_with(0.5, 4.0)
    assert bucket.tokens(2.0) == pytest.approx(1.0)
    for _ in range(10):
        bucket.deposit_success(2.0)
    assert bucket.tokens(2.0) == pytest.approx(2.0)
    assert bucket.tokens(100.0) == 4.0


def test_a_withdrawal_takes_its_whole_weight_or_nothing() -> None:
    bucket = bucket_with(1.0, 10.0)
    assert bucket.try_withdraw(2.0, 3.0)
    assert not bucket.try_withdraw(2.0, 3.0)
    assert bucket.try_withdraw(1.0, 3.0)
    assert bucket.counters() == BucketCounters(deposits=0, withdrawals=2, withdrawn_weight=3.0, refusals=1)


def test_tokens_end_with_the_lease_and_do_not_come_back_with_the_next() -> None:
    bucket = bucket_with(1.0, 10.0, expires_at=8.0)
    assert bucket.tokens(7.9) == pytest.approx(7.9)
    assert bucket.tokens(8.0) == 0
    bucket.apply_share(BucketShare(1.0, 10.0, FOREVER), 20.0)
    assert bucket.tokens(20.0) == 0
    assert bucket.tokens(21.0) == pytest.approx(1.0)


def test_a_smaller_cap_takes_tokens_away_at_once() -> None:
    bucket = bucket_with(10.0, 10.0)
    assert bucket.tokens(1.0) == 10
    bucket.apply_share(BucketShare(0.0, 2.0, FOREVER), 1.0)
    bucket.apply_share(BucketShare(0.0, 10.0, FOREVER), 1.0)
    assert bucket.tokens(2.0) == 2


def test_a_clock_that_steps_back_brings_nothing_twice() -> None:
    bucket = bucket_with(1.0, 100.0)
    assert bucket.tokens(10.0) == 10
    assert bucket.tokens(3.0) == 10
    assert bucket.tokens(10.0) == 10
    assert bucket.tokens(11.0) == 11


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_would_mint_tokens_is_an_error(weight: float) -> None:
    with pytest.raises(ValueError, match="weighs more"):
        bucket_with(1.0, 10.0).try_withdraw(weight, 5.0)


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=60))
def test_an_extra_attempt_is_refused_only_when_tokens_are_missing(steps: list[tuple[float, bool]]) -> None:
    bucket, now = bucket_with(0.3, 5.0), 0.0
    for elapsed, succeeded in steps:
        now += elapsed
        if succeeded:
            bucket.deposit_success(now)
        before = bucket.tokens(now)
        assert bucket.try_withdraw(1.0, now) == (before >= 1.0)
