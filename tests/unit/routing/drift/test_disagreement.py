"""The e-process over both paths' answers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridroute_serve.routing.drift.disagreement import (
    BASELINE_COMPARISONS,
    DisagreementState,
    disagreement_level,
    observe_disagreement,
)


def feed(state: DisagreementState, values: list[float]) -> DisagreementState:
    for value in values:
        state = observe_disagreement(state, value)
    return state


def usual(mean: float, seed: int) -> DisagreementState:
    rng = np.random.default_rng(seed)
    return feed(DisagreementState(), [float(rng.random() < mean) for _ in range(BASELINE_COMPARISONS)])


def test_nothing_is_judged_before_it_is_known_what_is_usual() -> None:
    state = feed(DisagreementState(), [1.0] * (BASELINE_COMPARISONS - 1))

    assert state.bound is None
    assert disagreement_level(state) == 0.0
    assert observe_disagreement(state, 1.0).bound is not None


def test_false_alarms_are_no_more_frequent_than_said() -> None:
    """At the very bound, where the promise is hardest to keep: 1 alarm in 10,000 comparisons or fewer."""
    alarms = comparisons = 0
    for seed in range(40):
        state = usual(0.1, seed)
        bound = state.bound
        assert bound is not None
        rng = np.random.default_rng(1_000 + seed)
        fresh = state
        for value in (rng.random(2_500) < bound).astype(float):
            state = observe_disagreement(state, value)
            comparisons += 1
            if disagreement_level(state) >= 1.0:
                alarms += 1
                state = fresh
    assert alarms <= comparisons / 10_000 + 3 * (comparisons / 10_000) ** 0.5


def test_answers_that_grow_apart_ring() -> None:
    state = usual(0.05, 0)
    for waited in range(1, 200):
        state = observe_disagreement(state, 1.0 if waited % 2 else 0.0)
        if disagreement_level(state) >= 1.0:
            break

    assert waited < 120
    calm = feed(state, [0.0] * 100)
    assert disagreement_level(calm) < disagreement_level(state)


@settings(max_examples=50)
@given(st.lists(st.floats(0.0, 1.0), min_size=BASELINE_COMPARISONS, max_size=BASELINE_COMPARISONS + 60))
def test_evidence_is_never_negative_and_never_without_end(values: list[float]) -> None:
    state = feed(DisagreementState(), values)

    assert 0.0 <= disagreement_level(state) <= 2.0
    assert state.compared == len(values)
    assert state.bound is None or 0.0 < state.bound < 1.0
