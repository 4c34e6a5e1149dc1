"""What `hybridroute status` says of the keeper's state: promise, budgets, upstreams, and what is wrong. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from hybridroute_api.facts import (
    BREAKER_CAUSE,
    BREAKER_OPENED,
    BREAKER_STATE,
    RETRY_EXTRA_ATTEMPTS,
    RETRY_REFUSALS,
    RETRY_TOKENS,
)
from hybridroute_api.quantities import format_usd, parse_usd

__all__ = [
    "describe_budgets",
    "describe_problems",
    "describe_promise",
    "describe_retries",
    "describe_state",
    "describe_upstreams",
]


def describe_promise(state: Mapping[str, Any]) -> list[str]:
    """The calibrated policy in force, whether its promise holds, and drift; empty on a route without a policy."""
    policy = state.get("policy") or {}
    if not policy.get("digest"):
        return []
    threshold = policy["threshold"]
    keeps = "keeps nothing" if threshold is None else f"threshold {threshold:.4f}"
    lines = [f"policy {policy['digest'][:12]} of {policy['created']}: {keeps}; {policy['why']}"]
    guarantee = state["guarantee"]
    told = f": {guarantee['message']}" if guarantee["message"] not in ("", policy["why"]) else ""
    lines.append(f"GuaranteeValid {guarantee['status']}, {guarantee['reason']}{told}")
    if policy.get("margin") is not None:
        lines.append(f"cascade: {_margin(policy['margin'])}")
    drift = state.get("drift") or {}
    if drift.get("evidence"):
        levels = ", ".join(f"{chart} {level:.2f}" for chart, level in sorted(drift["evidence"].items()))
        alarm = "an alarm is in force; " if drift["alarm"] else ""
        lines.append(f"drift: {alarm}{levels} of the limit after {drift['requests']} requests")
    return [*lines, *_describe_audit(drift.get("audit") or {})]


def _describe_audit(audit: Mapping[str, Any]) -> list[str]:
    compared = audit.get("compared") or 0
    stopped = "; the dollar budget bears no audit now" if audit.get("stopped_at") else ""
    if compared == 0 and not stopped:
        return []
    if audit["usual_at_most"] is None:
        return [f"audit: {compared} of the {audit['baseline']} pairs that say what is usual{stopped}"]
    return [
        f"audit: {compared} pairs, {audit['recent']:.0%} differ lately, at most {audit['usual_at_most']:.0%} is usual; "
        f"e-value {audit['e_value']:.3g} of {audit['alarm_e_value']:.0f}{stopped}"
    ]


def _margin(choice: Mapping[str, Any]) -> str:
    if choice["threshold"] is None:
        return f"looks at nothing: {choice['why']}"
    return f"threshold {choice['threshold']:.4f}, {choice['why']}"


def describe_budgets(state: Mapping[str, Any]) -> list[str]:
    """The route's budget and those of its clients, a line each; empty where nothing is budgeted."""
    route = state.get("budget")
    lines = [] if route is None else [f"budget {_budget(route)}"]
    clients = state.get("client_budgets") or {}
    return [*lines, *(f"budget of client {name} {_budget(clients[name])}" for name in sorted(clients))]


def describe_upstreams(state: Mapping[str, Any]) -> list[str]:
    """Each upstream's breaker, with the number of llm-proxy replicas that have it so, and why it is not closed:

    `upstream primary: open 2 (no answers); opened 3 times`.
    """
    states: dict[str, Counter[str]] = {}
    causes: dict[str, set[str]] = {}
    opened: Counter[str] = Counter()
    for facts in _facts(state, "llm-proxy"):
        for name, value in facts.items():
            if name.startswith(BREAKER_STATE):
                states.setdefault(name.removeprefix(BREAKER_STATE), Counter())[value] += 1
            elif name.startswith(BREAKER_OPENED):
                opened[name.removeprefix(BREAKER_OPENED)] += int(value)
            elif name.startswith(BREAKER_CAUSE):
                causes.setdefault(name.removeprefix(BREAKER_CAUSE), set()).add(value)
    return [
        f"upstream {name}: {', '.join(f'{state} {count}' for state, count in sorted(counts.items()))}"
        + (f" ({', '.join(sorted(causes[name]))})" if name in causes else "")
        + (f"; opened {opened[name]} times" if opened[name] else "")
        for name, counts in sorted(states.items())
    ]


def describe_retries(state: Mapping[str, Any]) -> list[str]:
    """The retry budget as the llm-proxy replicas that are alive have it; empty before the first has said so."""
    facts = [said for said in _facts(state, "llm-proxy") if RETRY_TOKENS in said]
    if not facts:
        return []
    tokens = sum(float(said[RETRY_TOKENS]) for said in facts)
    extra, refused = (
        sum(int(said.get(name, 0)) for said in facts) for name in (RETRY_EXTRA_ATTEMPTS, RETRY_REFUSALS)
    )
    return [f"retry budget: {tokens:.1f} tokens in hand; {extra} extra attempts, {refused} refused"]


def describe_state(state: Mapping[str, Any]) -> list[str]:
    """All of it but the problems, in the order in which both kinds of status show it."""
    return [
        *describe_promise(state),
        *describe_budgets(state),
        *describe_upstreams(state),
        *describe_retries(state),
    ]


def describe_problems(state: Mapping[str, Any]) -> list[str]:
    """What an operator has to repair: a live policy, a calibrated one or a clients file that is not in force."""
    problems = dict.fromkeys(
        f"the clients file is not in force, the last good one is: {facts['clients_problem']}"
        for facts in _facts(state, "router")
        if "clients_problem" in facts
    )
    error = (state.get("live") or {}).get("error")
    policy = state.get("policy") or {}
    refused = policy.get("problem")
    left = "the last good one is" if policy.get("digest") else "and none is"
    return [
        *([f"the calibrated policy is not in force, {left}: {refused}"] if refused else []),
        *([f"the live policy is not in force, the last good one is: {error}"] if error else []),
        *problems,
    ]


def _facts(state: Mapping[str, Any], app: str) -> Iterator[Mapping[str, str]]:
    for replica in (state.get("replicas") or {}).get(app, ()):
        if replica.get("alive", True):
            yield replica.get("facts") or {}


def _budget(budget: Mapping[str, Any]) -> str:
    limit, spent, reserved = (
        format_usd(parse_usd(budget[field])) for field in ("limit_usd", "spent_usd", "reserved_usd")
    )
    resets_at = budget.get("resets_at")
    resets = f", resets {datetime.fromtimestamp(resets_at, UTC):%Y-%m-%d %H:%M:%S} UTC" if resets_at else ""
    unknown = (
        "; what was spent before is not known, so it counts as all" if budget.get("past_unknown") else ""
    )
    return f"USD {limit}: {spent} spent, {reserved} reserved{resets}{unknown}"
