"""What the keeper says of the calibrated policy and its promise: `/state`, `/report` and `/metrics`. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from hybridroute_api.records import DecisionRecord
from hybridroute_api.serving import ArtifactPolicy
from hybridroute_api.standing import Guarantee
from hybridroute_api.vocabulary import PathName
from hybridroute_serve.costs.pricing import format_usd
from hybridroute_serve.keeper.artifact_desk import HeldArtifact
from hybridroute_serve.keeper.metric_table import GUARANTEE, POLICY, POLICY_VALID
from hybridroute_serve.keeper.metrics import Gauges
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.outlook import OutlookPoint, ScoredRequest, plan_outlook

__all__ = ["gauge_promise", "show_policy", "show_report"]


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
        "margin": msgspec.to_builtins(terms.margin) if terms else None,
    }


def show_report(
    held: HeldArtifact,
    asked: ArtifactPolicy,
    terms: ArtifactTerms,
    stored: Iterable[tuple[DecisionRecord, int]],
) -> dict[str, Any]:
    """Return what the stored requests would have cost at other risks. Those that it did not score are counted."""
    scored, others = [], 0
    for record, cost_nano_usd in stored:
        if record.audit is not None:
            continue
        if record.artifact != held.digest or record.confidence is None:
            others += 1
            continue
        in_scope = (record.scope_score or 0.0) >= terms.scope_threshold
        by_llm = record.path is PathName.LLM
        scored.append(
            ScoredRequest(
                record.confidence, in_scope, record.path is PathName.SLM, cost_nano_usd if by_llm else None
            )
        )
    document: dict[str, Any] = {"artifact": held.digest, "requests": len(scored), "not_scored": others}
    table = held.header.promise
    if table is None:
        return document | {"note": held.header.promise_note, "today": None, "points": []}
    outlook = plan_outlook(
        scored, table, delta=asked.delta, max_risk=asked.max_risk, threshold=terms.threshold
    )
    return document | {
        "delta": asked.delta,
        "today": _show_point(outlook.today),
        "points": [_show_point(point) for point in outlook.points],
    }


def _show_point(point: OutlookPoint) -> dict[str, Any]:
    return {
        "max_risk": point.max_risk,
        "threshold": point.threshold,
        "kept_share": point.kept_share,
        "regret": point.regret,
        "regret_at_most": point.regret_at_most,
        "llm_usd": None if point.llm_nano_usd is None else format_usd(point.llm_nano_usd),
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
