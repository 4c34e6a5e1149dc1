"""What an alarm does to a request that would stay."""

import pytest

from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import DriftAction
from hybridroute_serve.routing.drift.action import leave_reason, plan_drift

ALARM = DriftStanding("a", alarm="scope 1.10", void="drift: scope 1.10")


@pytest.mark.parametrize(
    ("action", "tight", "confidence", "leaves"),
    [
        (DriftAction.ALERT_ONLY, 0.9, 0.1, False),
        (DriftAction.TIGHTEN, 0.9, 0.89, True),
        (DriftAction.TIGHTEN, 0.9, 0.9, False),
        (DriftAction.TIGHTEN, None, 1.0, True),
        (DriftAction.TIGHTEN, 0.9, None, True),
        (DriftAction.ESCALATE_ALL, 0.0, 1.0, True),
    ],
)
def test_an_action_says_who_leaves(
    action: DriftAction, tight: float | None, confidence: float | None, *, leaves: bool
) -> None:
    reason = leave_reason(plan_drift(ALARM, "a", action, tight), confidence)

    assert (reason is not None) is leaves
    assert reason is None or "scope 1.10" in reason


@pytest.mark.parametrize("standing", [None, DriftStanding("a"), DriftStanding("b", alarm="x")])
def test_without_an_alarm_about_this_artifact_nobody_leaves(standing: DriftStanding | None) -> None:
    order = plan_drift(standing, "a", DriftAction.ESCALATE_ALL, None)

    assert order is None
    assert leave_reason(order, 0.0) is None
