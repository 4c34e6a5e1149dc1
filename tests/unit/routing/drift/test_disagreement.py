"""The e-process over both paths' answers: how often it rings for nothing, and how soon for something."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator

from hybridroute_serve.routing.drift.disagreement import (
    ALARM_E_VALUE,
    BASELINE_COMPARISONS,
    CUTS,
    FALSE_ALARM,
    DisagreementState,
    disagreement_level,
    e_value,
    observe_disagreement,
)

MOST_PAIRS = 1_000


def feed(state: DisagreementState, values: list[float]) -> DisagreementState:
    for value in values:
        state = observe_disagreement(state, value)
    return state


def labels(share: float, count: int, rng: Generator) -> list[float]:
    """Distances of short answers: 0 or 1."""
    return [float(one) for one in rng.random(count) < share]


def texts(mean: float, count: int, rng: Generator) -> list[float]:
    """Distances of long answers, spread about a mean."""
    return rng.beta(6.0 * mean, 6.0 * (1.0 - mean), count).tolist()


def pairs_until_alarm(state: DisagreementState, values: list[float]) -> int | None:
    for number, value in enumerate(values, start=1):
        state = observe_disagreement(state, value)
        if disagreement_level(state) >= 1.0:
            return number
    return None


def alarms(seeds: int, usual: float, later: float | None, pairs: int) -> int:
    """Count the routes that ring at all; `later` None: at the very bound that the baseline gave."""
    count = 0
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        state = feed(DisagreementState(), labels(usual, BASELINE_COMPARISONS, rng))
        assert state.bound is not None
        share = state.bound if later is None else later
        count += pairs_until_alarm(state, labels(share, pairs, rng)) is not None
    return count


def test_nothing_is_judged_before_it_is_known_what_is_usual() -> None:
    state = feed(DisagreementState(), [1.0] * (BASELINE_COMPARISONS - 1))

    assert (state.bound, state.cut) == (None, None)
    assert disagreement_level(state) == 0.0
    assert observe_disagreement(state, 1.0).bound is not None


@pytest.mark.parametrize("usual", [0.02, 0.2])
def test_at_the_very_bound_it_ever_rings_as_seldom_as_said(usual: float) -> None:
    """Where the promise is hardest to keep: the e-process's half of the false alarms, over 1,500 pairs of 100 routes.

    By Ville's inequality 1 % of them ring at most; six or more would then have a chance below 1 in 1,500.
    """
    assert alarms(100, usual, None, 1_500) <= 5


def test_a_share_that_stays_what_it_was_does_not_ring() -> None:
    """The bound included: 2 % may, and what is usual is well below the bound."""
    assert alarms(100, 0.1, 0.1, 1_500) <= 7
    assert FALSE_ALARM == 0.02


def test_a_share_that_falls_does_not_ring() -> None:
    assert alarms(20, 0.4, 0.1, 1_500) == 0


@pytest.mark.parametrize(
    ("usual", "later", "median"), [(0.0, 0.2, 120), (0.05, 0.3, 120), (0.1, 0.4, 120), (0.2, 0.6, 80)]
)
@pytest.mark.parametrize("calm", [0, 2_000])
def test_answers_that_grow_apart_ring_early_and_late_in_an_artifacts_life(
    usual: float, later: float, median: int, calm: int
) -> None:
    waits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        state = feed(DisagreementState(), labels(usual, BASELINE_COMPARISONS + calm, rng))
        waits.append(pairs_until_alarm(state, labels(later, MOST_PAIRS, rng)) or math.inf)

    assert np.median(waits) <= median
    assert np.mean(np.isfinite(waits)) >= 0.9


def test_long_answers_choose_their_own_cut() -> None:
    """A tenth of the usual distances is beyond it, wherever they are, and answers of another kind ring."""
    for mean in (0.15, 0.3, 0.5):
        rng = np.random.default_rng(1)
        state = feed(DisagreementState(), texts(mean, BASELINE_COMPARISONS, rng))
        assert state.cut is not None
        assert state.cut > mean
        assert pairs_until_alarm(state, texts(mean, 2_000, rng)) is None
        wait = pairs_until_alarm(state, texts(mean + 0.25, MOST_PAIRS, rng))
        assert wait is not None
        assert wait <= 150


def test_answers_that_always_agreed_ring_at_the_smallest_difference() -> None:
    state = feed(DisagreementState(), [0.0] * BASELINE_COMPARISONS)

    assert state.cut == CUTS[0]
    assert (pairs_until_alarm(state, [0.2] * 50) or 50) <= 12


def test_an_alarm_ends_when_answers_agree_again() -> None:
    state = feed(DisagreementState(), [0.0] * BASELINE_COMPARISONS)
    rung = feed(state, [1.0] * 30)
    assert e_value(rung) >= ALARM_E_VALUE

    assert disagreement_level(feed(rung, [0.0] * 100)) < 0.5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0.0, 1.0), min_size=BASELINE_COMPARISONS, max_size=BASELINE_COMPARISONS + 60))
def test_evidence_is_never_negative_and_never_without_end(values: list[float]) -> None:
    state = feed(DisagreementState(), values)

    assert 0.0 <= disagreement_level(state) <= 2.0
    assert state.compared == len(values)
    assert state.bound is not None
    assert 0.0 < state.bound < 1.0
    assert state.cut in CUTS
    assert 0 <= state.differing <= state.compared - BASELINE_COMPARISONS


@settings(deadline=None)
@given(st.integers(0, BASELINE_COMPARISONS), st.lists(st.booleans(), min_size=1, max_size=200))
def test_no_bet_wins_on_average_while_the_share_is_the_bound(usual: int, seen: list[bool]) -> None:
    """The supermartingale itself: whatever was seen, the next factor's mean at the bound is 1, and less below it."""
    baseline = [float(number < usual) for number in range(BASELINE_COMPARISONS)]
    state = feed(DisagreementState(), [*baseline, *map(float, seen)])
    assert state.bound is not None
    after = [observe_disagreement(state, value) for value in (0.0, 1.0)]
    if after[0].runs == after[1].runs == state.runs and state.log_evidence < math.log(ALARM_E_VALUE):
        factors = [math.exp(one.log_evidence - state.log_evidence) for one in after]
        mean = (1.0 - state.bound) * factors[0] + state.bound * factors[1]
        assert mean == pytest.approx(1.0, abs=1e-9)
        assert factors[0] <= 1.0 <= factors[1]


def test_stakes_of_all_runs_add_up_to_one() -> None:
    assert sum(1.0 / (run * (run + 1)) for run in range(1, 100_000)) <= 1.0
