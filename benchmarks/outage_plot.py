"""Draws outages: a panel for each gateway and scenario, per second what came, what was sent on, what failed."""

from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

__all__ = ["plot_outages"]

SENT, FAILED, OUTAGE = "#5b8db8", "#c0392b", "#f4e3d7"
INK: Final = "#222222"


def plot_outages(measurements: list[dict[str, Any]], titles: dict[str, str], path: Path) -> None:
    """Write a PNG: scenarios side by side, gateways below each other, one scale for all.

    `measurements` are `outage.Measurement` as dictionaries; `titles` names the scenarios to show, in order.
    """
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    peers = list(dict.fromkeys(one["peer"] for one in measurements))
    columns = [name for name in titles if any(one["scenario"] == name for one in measurements)]
    figure = Figure(figsize=(1.5 + 4.6 * len(columns), 1.3 + 1.45 * len(peers)), layout="constrained")
    grid = figure.subplots(len(peers), len(columns), squeeze=False, sharex=True, sharey=True)
    found = {(one["peer"], one["scenario"]): one for one in measurements}
    for row, peer in enumerate(peers):
        for column, scenario in enumerate(columns):
            axes = grid[row][column]
            if row == 0:
                axes.set_title(titles[scenario].replace("`", ""), loc="left", fontsize=10, color=INK, pad=14)
            if column == 0:
                axes.set_ylabel(peer, rotation=0, ha="right", va="center", fontsize=10, color=INK)
            if row == len(peers) - 1:
                axes.set_xlabel("seconds from the start of the fault")
            draw(axes, found.get((peer, scenario)))
    highest = max(max(one["timeline"]["attempts"] + one["timeline"]["requests"]) for one in measurements)
    grid[0][0].set_ylim(0, 1.05 * highest)  # shared by all, and only known when all are drawn
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)


def draw(axes: Any, one: dict[str, Any] | None) -> None:
    """Draw one panel."""
    if one is None:
        axes.text(
            0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color="#777777"
        )
        return
    seconds = one["timeline"]["second"]
    edges = [*seconds, seconds[-1] + 1]
    axes.axvspan(0, one["outage_seconds"], color=OUTAGE, label="the fault", linewidth=0)
    axes.stairs(one["timeline"]["attempts"], edges, fill=True, color=SENT, label="upstream attempts/s")
    axes.stairs(
        one["timeline"]["requests"], edges, color=INK, linewidth=1.2, label="client requests/s", baseline=None
    )
    axes.stairs(
        one["timeline"]["failed"], edges, color=FAILED, linewidth=1.6, label="of them failed", baseline=None
    )
    errors = 100 * one["errors"] / one["requests"]
    said = f"{one['attempts_per_request']:.2f} attempts per request, {errors:.0f} % errors"
    axes.text(1, 1.0, said, transform=axes.transAxes, ha="right", va="bottom", fontsize=8, color=INK)
