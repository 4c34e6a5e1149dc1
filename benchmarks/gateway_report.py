"""The table of `benchmarks.gateway`: a row per gateway, and the ratios that say what is gained and lost."""

from statistics import median
from typing import Any, Final

__all__ = ["Series", "report", "series_of"]

Series = dict[tuple[str, str, str], dict[int, float]]
"""(gateway, cell, figure) → value by round."""

DIRECT: Final = "direct"
COLUMNS: Final = (
    ("requests/s, 16 at once", "requests_16", "per_second", "{:,.0f}"),
    ("requests/s, 128 at once", "requests_128", "per_second", "{:,.0f}"),
    ("p50 at 1, ms", "requests_1", "p50_ms", "{:.2f}"),
    ("p99 at 1, ms", "requests_1", "p99_ms", "{:.1f}"),
    ("streams/s, 16 at once", "streams_16", "per_second", "{:,.0f}"),
    ("first chunk added, ms", "paced", "first_ms", "{:.2f}"),
    ("each chunk added, ms", "paced", "chunk_ms", "{:.3f}"),
    ("CPU-ms a request", "requests_16", "cpu_ms", "{:.2f}"),
    ("CPU-ms a stream", "streams_16", "cpu_ms", "{:.2f}"),
    ("RSS, MiB", "requests_16", "rss_mib", "{:,.0f}"),
)
RATIOS: Final = (
    ("all on ÷ bare, requests/s (16)", "hybridroute", "bare", "requests_16", "per_second"),
    ("all on ÷ bare, requests/s (128)", "hybridroute", "bare", "requests_128", "per_second"),
    ("all on ÷ bare, streams/s", "hybridroute", "bare", "streams_16", "per_second"),
    ("all on ÷ bare, CPU a request", "hybridroute", "bare", "requests_16", "cpu_ms"),
    ("all on ÷ wrapped, requests/s (16)", "hybridroute", "wrapped", "requests_16", "per_second"),
    ("all on ÷ wrapped, p50 at 1", "hybridroute", "wrapped", "requests_1", "p50_ms"),
    ("all on ÷ wrapped, streams/s", "hybridroute", "wrapped", "streams_16", "per_second"),
    ("all on ÷ wrapped, first chunk added", "hybridroute", "wrapped", "paced", "first_ms"),
    ("all on ÷ wrapped, CPU a request", "hybridroute", "wrapped", "requests_16", "cpu_ms"),
    ("merged ÷ all on, requests/s (16)", "merged", "hybridroute", "requests_16", "per_second"),
    ("merged ÷ all on, requests/s (128)", "merged", "hybridroute", "requests_128", "per_second"),
    ("merged ÷ all on, streams/s", "merged", "hybridroute", "streams_16", "per_second"),
    ("merged ÷ all on, first chunk added", "merged", "hybridroute", "paced", "first_ms"),
    ("all on ÷ LiteLLM, requests/s (16)", "hybridroute", "litellm", "requests_16", "per_second"),
    ("all on ÷ LiteLLM, streams/s", "hybridroute", "litellm", "streams_16", "per_second"),
    ("all on ÷ Portkey, requests/s (16)", "hybridroute", "portkey", "requests_16", "per_second"),
    ("all on ÷ Portkey, streams/s", "hybridroute", "portkey", "streams_16", "per_second"),
    ("all on ÷ vllm-router, requests/s (16)", "hybridroute", "vllm-router", "requests_16", "per_second"),
    ("all on ÷ vllm-router, streams/s", "hybridroute", "vllm-router", "streams_16", "per_second"),
    ("all on ÷ Envoy, requests/s (16)", "hybridroute", "envoy", "requests_16", "per_second"),
    ("all on ÷ Envoy, streams/s", "hybridroute", "envoy", "streams_16", "per_second"),
)
ADDED: Final = ("first_ms", "chunk_ms")
"""Figures that are shown less the direct one of the same round."""


def series_of(measurements: list[dict[str, Any]]) -> Series:
    """Collect the rounds of each figure."""
    series: Series = {}
    for one in measurements:
        for name, value in one["values"].items():
            series.setdefault((one["gateway"], one["cell"], name), {})[one["round"]] = value
    for (gateway, cell, name), rounds in list(series.items()):
        if name in ADDED and gateway != DIRECT:
            direct = series.get((DIRECT, cell, name), {})
            less = {number: value - direct[number] for number, value in rounds.items() if number in direct}
            series[gateway, cell, name] = less
    return series


def shown(values: list[float], form: str) -> str:
    """Return median (least to most)."""
    if not values:
        return "-"
    if len(values) == 1:
        return form.format(values[0])
    return f"{form.format(median(values))} ({form.format(min(values))} to {form.format(max(values))})"


def report(
    measurements: list[dict[str, Any]],
    versions: dict[str, str],
    missing: list[str],
    measured: str,
    *,
    seconds: float,
) -> list[str]:
    """Return the Markdown."""
    series = series_of(measurements)
    gateways = list(dict.fromkeys(one["gateway"] for one in measurements))
    rounds = 1 + max((one["round"] for one in measurements), default=-1)
    others = [one["others"] for one in measurements]
    lines = ["# What a gateway costs", "", measured, ""]
    lines += [
        f"{rounds} interleaved rounds of {seconds:g} s per figure; median (least to most). Everything runs on the same"
        " processors: the client (wrk), the upstream and the gateway. A stream has 64 chunks with content. `added` is"
        " the median of paced streams, one at a time, less the direct one of the same round; in the row `direct` it is"
        " that itself. CPU and RSS are of all of a gateway's processes; in the row `direct` they are the upstream's."
        f" Meanwhile other processes took {shown([100 * share for share in others], '{:.0f}')} % of the processors.",
        "",
        f"| gateway | version | {' | '.join(title for title, *_ in COLUMNS)} |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for gateway in gateways:
        cells = [
            shown(list(series.get((gateway, cell, name), {}).values()), form)
            for _, cell, name, form in COLUMNS
        ]
        lines.append(f"| {gateway} | {versions.get(gateway, '')} | {' | '.join(cells)} |")
    lines += ["", "| ratio of a round's two figures | median (least to most) |", "|---|---|"]
    for title, ours, theirs, cell, name in RATIOS:
        mine, other = series.get((ours, cell, name), {}), series.get((theirs, cell, name), {})
        ratios = [value / other[number] for number, value in mine.items() if number in other]
        if ratios:
            lines.append(f"| {title} | {shown(ratios, '{:.2f}')} |")
    if missing:
        lines += ["", "**Not measured:**", "", *(f"- {reason}" for reason in missing)]
    return lines
