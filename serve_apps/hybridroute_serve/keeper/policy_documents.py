"""What the keeper says of the calibrated policy and its promise: for `/state` and for `/metrics`. Pure."""

from typing import Any

from hybridroute_api.standing import Guarantee
from hybridroute_serve.keeper.artifact_desk import HeldArtifact
from hybridroute_serve.keeper.metric_table import GUARANTEE, POLICY, POLICY_VALID
from hybridroute_serve.keeper.metrics import Gauges
from hybridroute_serve.routing.artifact.terms import ArtifactTerms

__all__ = ["gauge_promise", "show_policy"]


def show_policy(
    held: HeldArtifact | None, terms: ArtifactTerms | None, problem: str | None
) -> dict[str, Any] | None:
    """Return the policy in force and what is wrong with the one that is asked for; None where there is neither."""
    if held is None and problem is None:
        return None
    return {
        "digest": held.digest if held else None,
        "created": held.header.created if held else None,
        "problem": problem,
        "threshold": terms.threshold if terms else None,
        "why": terms.why if terms else None,
        "kept_share": terms.kept_share if terms else None,
        "scope_threshold": terms.scope_threshold if terms else None,
        "tight_threshold": terms.tight_threshold if terms else None,
    }


def gauge_promise(route: str, digest: str | None, problem: str | None, guarantee: Guarantee) -> Gauges:
    """Return what is true now of the calibrated policy; without one only the verdict."""
    gauges: dict[Any, dict[tuple[str, ...], float]] = {
        GUARANTEE: {(route, guarantee.status.value, guarantee.reason.value): 1.0}
    }
    if digest is not None:
        gauges[POLICY] = {(route, digest): 1.0}
    if digest is not None or problem is not None:
        gauges[POLICY_VALID] = {(route,): float(problem is None)}
    return gauges
