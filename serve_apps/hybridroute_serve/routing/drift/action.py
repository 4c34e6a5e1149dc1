"""What a drift alarm does to a request that the gates before would keep on the SLM. Pure."""

from dataclasses import dataclass

from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import DriftAction

__all__ = ["DriftOrder", "leave_reason", "plan_drift"]


@dataclass(frozen=True, slots=True)
class DriftOrder:
    """What holds while an alarm is in force."""

    action: DriftAction
    alarm: str
    """The alarm, in a few words."""
    threshold: float | None
    """Tighten keeps a request whose confidence is at least this; None keeps nothing. Else of no meaning."""


def plan_drift(
    standing: DriftStanding | None, artifact: str, action: DriftAction, tight_threshold: float | None
) -> DriftOrder | None:
    """Return what is to be done now; None without an alarm about the artifact that decides.

    `tight_threshold` is what the artifact's table gives for `tightenMaxRisk`; None where it keeps nothing.
    """
    if standing is None or standing.alarm is None or standing.artifact != artifact:
        return None
    return DriftOrder(action, standing.alarm, tight_threshold)


def leave_reason(order: DriftOrder | None, confidence: float | None) -> str | None:
    """Return why a request may not stay on the SLM, or None when it may."""
    if order is None or order.action is DriftAction.ALERT_ONLY:
        return None
    if order.action is DriftAction.ESCALATE_ALL:
        return f"all are escalated since the drift alarm: {order.alarm}"
    if order.threshold is None or confidence is None:
        return f"no threshold is strict enough since the drift alarm: {order.alarm}"
    if confidence >= order.threshold:
        return None
    return f"confidence {confidence:.3f} < {order.threshold:.3f}, tightened by the drift alarm: {order.alarm}"
