"""Draws what gateways cost: a panel for each figure, a bar for each gateway, from the least round to the most."""

from pathlib import Path
from statistics import median
from typing import Any, Final

import matplotlib as mpl
from benchmarks.gateway_report import DIRECT, series_of
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

__all__ = ["plot_gateways"]

OURS: Final = {"hybridroute": "#1f5fa8", "bare": "#8fb4d9", "merged": "#5b8fc4"}
OTHERS, INK = "#b9b9b9", "#222222"
PANELS: Final = (
    ("requests/s, 16 at once", "requests_16", "per_second", "{:,.0f}"),
    ("streams/s of 64 chunks, 16 at once", "streams_16", "per_second", "{:,.0f}"),
    ("p50 of a lone request, ms", "requests_1", "p50_ms", "{:.2f}"),
    ("added to the first chunk, ms", "paced", "first_ms", "{:.2f}"),
    ("added to each chunk, ms", "paced", "chunk_ms", "{:.3f}"),
    ("processor time a request, ms", "requests_16", "cpu_ms", "{:.2f}"),
)


def plot_gateways(measurements: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG. `measurements` are `gateway.Measurement` as dictionaries."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    series = series_of(measurements)
    gateways = list(dict.fromkeys(one["gateway"] for one in measurements))
    figure = Figure(figsize=(12, 1.6 + 0.62 * len(gateways)), layout="constrained")
    figured = {(cell, name) for _, cell, name in series}
    panels = [panel for panel in PANELS if panel[1:3] in figured]
    grid = figure.subplots(-(-len(panels) // 3), min(3, len(panels)), squeeze=False).flatten()
    for axes in grid[len(panels) :]:
        axes.remove()
    for axes, (title, cell, name, form) in zip(grid, panels, strict=False):
        drawn = [
            (gateway, list(series[gateway, cell, name].values()))
            for gateway in gateways
            if series.get((gateway, cell, name)) and (gateway != DIRECT or name.startswith("p"))
        ]
        draw(axes, drawn, form)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
    figure.savefig(path, dpi=130)


def draw(axes: Any, drawn: list[tuple[str, list[float]]], form: str) -> None:
    """Draw one panel on a logarithmic scale: gateways differ a hundredfold."""
    names = [gateway for gateway, _ in drawn]
    middles = [max(1e-3, median(values)) for _, values in drawn]
    colours = [OURS.get(name, OTHERS) for name in names]
    places = list(range(len(drawn)))
    axes.barh(places, middles, color=colours, height=0.66)
    for place, middle, (_, values) in zip(places, middles, drawn, strict=True):
        axes.plot([max(1e-3, min(values)), max(1e-3, *values)], [place, place], color=INK, linewidth=1)
        axes.annotate(
            form.format(median(values)),
            (max(middle, *values), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.25)
