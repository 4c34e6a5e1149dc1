"""Budgets as the keeper shows them, in `/state` and as gauges. Pure; money as decimal strings of US dollars."""

from collections.abc import Mapping
from typing import Any

from hybridroute_serve.budgets.ledger import Standing
from hybridroute_serve.costs.pricing import format_usd
from hybridroute_serve.keeper.budget_terms import CLIENT_PREFIX, ROUTE_ACCOUNT
from hybridroute_serve.keeper.metric_table import (
    BUDGET_LIMIT,
    BUDGET_PAST_UNKNOWN,
    BUDGET_RESERVED,
    BUDGET_SPENT,
    RETRY_FLOOR_LENT,
    RETRY_TOKENS_LENT,
)
from hybridroute_serve.keeper.metrics import Gauges
from hybridroute_serve.keeper.retry_shares import LentShares

__all__ = ["gauge_budgets", "show_budgets", "show_retry_budget"]

_NANO = 1_000_000_000


def show_budgets(standings: Mapping[str, Standing]) -> dict[str, Any]:
    """The route's budget, None without one, and those of clients that have one."""
    route = standings.get(ROUTE_ACCOUNT)
    return {
        "budget": _show(route) if route is not None else None,
        "client_budgets": {
            name.removeprefix(CLIENT_PREFIX): _show(standing)
            for name, standing in standings.items()
            if name.startswith(CLIENT_PREFIX)
        },
    }


def show_retry_budget(lent: LentShares) -> dict[str, Any]:
    """What replicas may hold of the route's retry budget."""
    return {
        "lent": lent.tokens,
        "floor_lent_per_second": lent.floor_tokens_per_second,
        "members": list(lent.members),
    }


def gauge_budgets(route: str, standings: Mapping[str, Standing], lent: LentShares) -> Gauges:
    """The same for `/metrics`."""
    accounts = {(route, name): standing for name, standing in standings.items()}
    return {
        BUDGET_LIMIT: {key: standing.limit_nano_usd / _NANO for key, standing in accounts.items()},
        BUDGET_SPENT: {key: standing.settled_nano_usd / _NANO for key, standing in accounts.items()},
        BUDGET_RESERVED: {key: standing.reserved_nano_usd / _NANO for key, standing in accounts.items()},
        BUDGET_PAST_UNKNOWN: {key: float(standing.past_unknown) for key, standing in accounts.items()},
        RETRY_TOKENS_LENT: {(route,): lent.tokens},
        RETRY_FLOOR_LENT: {(route,): lent.floor_tokens_per_second},
    }


def _show(standing: Standing) -> dict[str, Any]:
    return {
        "limit_usd": format_usd(standing.limit_nano_usd),
        "spent_usd": format_usd(standing.settled_nano_usd),
        "reserved_usd": format_usd(standing.reserved_nano_usd),
        "resets_at": standing.resets_at,
        "past_unknown": standing.past_unknown,
    }
