"""What the keeper answers, as JSON-ready values. Pure; money as decimal strings of US dollars."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hybridroute_api.records import DecisionRecord
from hybridroute_api.serving import LivePolicy
from hybridroute_serve.costs.pricing import format_usd
from hybridroute_serve.keeper.accounts import account_costs
from hybridroute_serve.keeper.explain import explain_record
from hybridroute_serve.keeper.heartbeats import count_breakers, count_sequences, fullest_cache
from hybridroute_serve.keeper.metric_table import (
    BREAKERS,
    ENGINE_CACHE_USE,
    ENGINE_SEQUENCES,
    EPOCH,
    LIVE_POLICY,
    LIVE_POLICY_VALID,
    REPLICAS,
)
from hybridroute_serve.keeper.metrics import Gauges
from hybridroute_serve.keeper.reads import KnownReplica, StoredAttempt, StoredRequest
from hybridroute_serve.keeper.tally import TotalKey

__all__ = [
    "ALIVE_SECONDS",
    "gauge_state",
    "is_alive",
    "show_audits",
    "show_records",
    "show_request",
    "show_state",
]

ALIVE_SECONDS = 10.0
"""A replica is shown as alive when it was heard from within this: five heartbeats."""


def show_request(request: StoredRequest) -> dict[str, Any]:
    """One request in full, with its line of explanation."""
    reports = [attempt.report for attempt in request.attempts]
    record = request.record
    return {
        "record": _show(record) if record is not None else None,
        "attempts": [_show_attempt(attempt) for attempt in request.attempts],
        "cost_usd": format_usd(request.cost_nano_usd),
        "explanation": explain_record(record, reports, request.audit)
        if record is not None
        else "not ended yet",
    }


def show_records(requests: Iterable[StoredRequest]) -> dict[str, Any]:
    """Many requests in short: each record with its cost."""
    return {
        "records": [
            _show(request.record) | {"cost_usd": format_usd(request.cost_nano_usd)}
            for request in requests
            if request.record is not None
        ]
    }


def show_audits(audits: Iterable[tuple[DecisionRecord, DecisionRecord | None]]) -> dict[str, Any]:
    """Audited requests, for whoever labels them: both outcomes of a row are then known of one prompt."""
    return {
        "audits": [
            {
                "request_id": audit.audit.of,
                "received_at": audit.received_at,
                "prompt": answered.prompt_text if answered is not None else None,
                "confidence": answered.confidence if answered is not None else None,
                "propensity": audit.audit.propensity,
                "served_by": answered.path if answered is not None else None,
                "copied_to": audit.path,
                "outcome": audit.outcome,
                "disagreement": audit.audit.disagreement,
                "artifact": audit.artifact,
            }
            for audit, answered in audits
            if audit.audit is not None
        ]
    }


def show_state(
    *,
    route: str,
    epoch: int,
    superseded: str | None,
    live: LivePolicy | None,
    live_error: str | None,
    replicas: Iterable[KnownReplica],
    totals: Mapping[TotalKey, int],
    now: float,
) -> dict[str, Any]:
    """What a status is made of."""
    by_app: dict[str, list[dict[str, Any]]] = {}
    for replica in replicas:
        if not replica.ended:
            by_app.setdefault(replica.heartbeat.app, []).append(_show_replica(replica, now))
    return {
        "route": route,
        "epoch": epoch,
        "superseded": superseded,
        "live": {
            "version": live.version if live is not None else None,
            "mode": live.mode if live is not None else None,
            "error": live_error,
        },
        "replicas": by_app,
        "totals": account_costs(totals),
    }


def gauge_state(
    *,
    route: str,
    epoch: int,
    live: LivePolicy | None,
    live_error: str | None,
    replicas: Iterable[KnownReplica],
    now: float,
) -> Gauges:
    """What is true now, for `/metrics`."""
    alive = [replica.heartbeat for replica in replicas if is_alive(replica, now)]
    return {
        EPOCH: {(route,): epoch},
        REPLICAS: {(route, app): count for app, count in Counter(beat.app for beat in alive).items()},
        ENGINE_SEQUENCES: {(route, *key): count for key, count in count_sequences(alive).items()},
        ENGINE_CACHE_USE: {(route, *key): share for key, share in fullest_cache(alive).items()},
        BREAKERS: {(route, *key): count for key, count in count_breakers(alive).items()},
        LIVE_POLICY: {(route, live.version, live.mode): 1} if live is not None else {},
        LIVE_POLICY_VALID: {(route,): float(live is not None and live_error is None)},
    }


def _show(value: msgspec.Struct) -> dict[str, Any]:
    """Return every field, those with their default too, which are not stored."""
    shown: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(value))
    return shown


def _show_attempt(attempt: StoredAttempt) -> dict[str, Any]:
    return _show(attempt.report) | {
        "cost_usd": format_usd(attempt.report.cost_nano_usd),
        "all_llm_usd": format_usd(attempt.all_llm_nano_usd),
    }


def _show_replica(replica: KnownReplica, now: float) -> dict[str, Any]:
    shown = _show(replica.heartbeat)
    del shown["app"], shown["ended"]
    return shown | {"heard_at": replica.heard_at, "alive": is_alive(replica, now)}


def is_alive(replica: KnownReplica, now: float) -> bool:
    """Return whether the replica was heard from lately."""
    return not replica.ended and now - replica.heard_at < ALIVE_SECONDS
