"""The truth table of Ready and Degraded, row by row, and what holds of every row."""

import inspect
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from hybridroute_api.v1alpha1.conditions import (
    ConditionReason as R,
)
from hybridroute_api.v1alpha1.conditions import (
    ConditionStatus,
    PartStates,
    Verdict,
    decide_degraded,
    decide_ready,
)
from hybridroute_api.vocabulary import Mode

T, F, U = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

Row = tuple[Any, ...]
TABLE: list[Row] = [
    # mode, accepted, router, slm, llm → Ready, Degraded
    (Mode.HYBRID, T, T, T, T, (T, R.SERVING), (F, R.SERVING)),
    (Mode.HYBRID, T, T, F, T, (T, R.LLM_CARRIES), (T, R.LLM_CARRIES)),  # SLM down or at zero by fault
    (Mode.HYBRID, T, T, U, T, (T, R.LLM_CARRIES), (U, R.STARTING)),  # SLM on its way
    (Mode.HYBRID, T, T, T, F, (T, R.SLM_CARRIES), (T, R.SLM_CARRIES)),
    (Mode.HYBRID, T, T, T, U, (U, R.STARTING), (U, R.STARTING)),
    (Mode.HYBRID, T, T, F, F, (F, R.PATHS_DOWN), (T, R.PATHS_DOWN)),
    (Mode.HYBRID, T, T, F, U, (U, R.STARTING), (T, R.LLM_CARRIES)),
    (Mode.HYBRID, T, T, U, F, (U, R.STARTING), (T, R.SLM_CARRIES)),
    (Mode.HYBRID, T, T, U, U, (U, R.STARTING), (U, R.STARTING)),
    (Mode.HYBRID, T, F, T, T, (F, R.ROUTER_DOWN), (T, R.ROUTER_DOWN)),
    (Mode.HYBRID, T, U, T, T, (U, R.STARTING), (U, R.STARTING)),
    (Mode.HYBRID, F, T, T, T, (F, R.NOT_ACCEPTED), (F, R.NOT_ACCEPTED)),
    (Mode.HYBRID, U, T, T, T, (U, R.STARTING), (U, R.STARTING)),
    (Mode.LOCAL_ONLY, T, T, T, F, (T, R.SERVING), (F, R.SERVING)),  # the LLM is not needed
    (Mode.LOCAL_ONLY, T, T, F, T, (F, R.PATHS_DOWN), (T, R.PATHS_DOWN)),
    (Mode.LOCAL_ONLY, T, T, U, T, (U, R.STARTING), (U, R.STARTING)),
    (Mode.LLM_ONLY, T, T, F, T, (T, R.SERVING), (F, R.SERVING)),  # the SLM is not needed
    (Mode.LLM_ONLY, T, T, T, F, (F, R.PATHS_DOWN), (T, R.PATHS_DOWN)),
    (Mode.LLM_ONLY, T, T, T, U, (U, R.STARTING), (U, R.STARTING)),
]
EVERY_STATE = [PartStates(mode, *states) for mode, *states in product(Mode, *[ConditionStatus] * 4)]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: " ".join(row[:5]))
def test_row(row: Row) -> None:
    *states, ready, degraded = row
    parts = PartStates(*states)
    assert decide_ready(parts) == Verdict(*ready)
    assert decide_degraded(parts) == Verdict(*degraded)


def test_a_ready_route_has_a_router_and_a_path_that_the_mode_needs() -> None:
    ready = [parts for parts in EVERY_STATE if decide_ready(parts).status is T]
    assert ready
    assert all(parts.accepted is T and parts.router is T and T in parts.needed.values() for parts in ready)


def test_what_is_not_degraded_and_accepted_has_no_faulty_part() -> None:
    healthy = [
        parts for parts in EVERY_STATE if decide_degraded(parts).status is F and parts.accepted is not F
    ]
    assert healthy
    assert all(F not in (parts.router, *parts.needed.values()) for parts in healthy)


def test_both_conditions_agree_on_a_route_that_serves_as_asked() -> None:
    for parts in EVERY_STATE:
        serving = decide_ready(parts).reason is R.SERVING
        assert serving == (decide_degraded(parts).reason is R.SERVING)


def test_a_path_that_the_mode_does_not_need_changes_nothing() -> None:
    for parts in EVERY_STATE:
        if parts.mode is Mode.LLM_ONLY:
            other = PartStates(parts.mode, parts.accepted, parts.router, T, parts.llm)
        elif parts.mode is Mode.LOCAL_ONLY:
            other = PartStates(parts.mode, parts.accepted, parts.router, parts.slm, T)
        else:
            continue
        assert decide_ready(parts) == decide_ready(other)
        assert decide_degraded(parts) == decide_degraded(other)


def test_the_documentation_has_the_same_tables() -> None:
    page = (Path(__file__).parents[3] / "docs" / "conditions.md").read_text()
    for decide in (decide_ready, decide_degraded):
        rows = [row for row in (inspect.getdoc(decide) or "").splitlines() if row.startswith("|")]
        assert len(rows) > 6
        assert "\n".join(rows) in page
