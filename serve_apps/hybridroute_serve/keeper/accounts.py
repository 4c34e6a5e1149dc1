"""Costs per path, from the totals. Pure.

`saved` is what the same tokens would have cost on the LLM alone, less everything that was spent: LLM tokens,
SLM busy time and SLM idle time, audits included. It is negative while the small model costs more than it saves.
"""

from collections.abc import Mapping
from typing import Any

from hybridroute_api.vocabulary import Outcome, PathName
from hybridroute_serve.costs.pricing import format_usd
from hybridroute_serve.keeper.metric_table import ALL_LLM, COST, REQUESTS, SLM_IDLE, TOKENS, Metric
from hybridroute_serve.keeper.tally import TotalKey

__all__ = ["ERROR_OUTCOMES", "account_costs"]

ERROR_OUTCOMES = frozenset(
    {Outcome.THROTTLED, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.CUT, Outcome.LOST}
)
"""Outcomes that are the service's fault; a wrong, refused or cancelled request is none."""


def account_costs(totals: Mapping[TotalKey, int]) -> dict[str, Any]:
    """Return the costs document: money as decimal strings of US dollars."""
    busy = _sum(totals, COST, path=PathName.SLM)
    llm = _sum(totals, COST, path=PathName.LLM)
    idle = _sum(totals, SLM_IDLE)
    all_llm = _sum(totals, ALL_LLM)
    return {
        "requests": _requests(totals),
        "errors": sum(_requests(totals, outcome=outcome) for outcome in ERROR_OUTCOMES),
        "paths": {
            "slm": _path(totals, PathName.SLM) | {"usd": format_usd(busy), "idle_usd": format_usd(idle)},
            "llm": _path(totals, PathName.LLM) | {"usd": format_usd(llm)},
        },
        "all_llm_usd": format_usd(all_llm),
        "saved_usd": format_usd(all_llm - busy - idle - llm),
    }


def _path(totals: Mapping[TotalKey, int], path: PathName) -> dict[str, Any]:
    return {
        "requests": _requests(totals, path=path),
        "prompt_tokens": _sum(totals, TOKENS, path=path, kind="prompt"),
        "completion_tokens": _sum(totals, TOKENS, path=path, kind="completion"),
    }


def _requests(totals: Mapping[TotalKey, int], **wanted: str) -> int:
    return _sum(totals, REQUESTS, **wanted)


def _sum(totals: Mapping[TotalKey, int], metric: Metric, **wanted: str) -> int:
    places = {metric.labels.index(label): value for label, value in wanted.items()}
    return sum(
        value
        for (name, labels), value in totals.items()
        if name == metric.name and all(labels[place] == value for place, value in places.items())
    )
