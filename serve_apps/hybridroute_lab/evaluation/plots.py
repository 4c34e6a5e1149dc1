"""Draws what an evaluation found or a running route reported: PNG files. Needs matplotlib, and no screen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridroute_lab.evaluation.routing import RoutingEvaluation
from hybridroute_lab.evaluation.scope import ScopeEvaluation

__all__ = ["plot_drift", "plot_report", "plot_routing", "plot_scope"]

_RELIABILITY_BINS = 10


def plot_routing(evaluation: RoutingEvaluation, folder: Path) -> list[Path]:
    """Write cost against quality, reliability and the promise; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    cost, axes = _figure("calls to the large model, %", "recovered quality, %")
    for name, curve in evaluation.curves.items():
        strong = name.startswith("hybridroute")
        axes.plot(100 * curve.share, 100 * curve.recovered, label=name, linewidth=2.0 if strong else 1.0)
    axes.set_ylim(0, 130)
    axes.legend(fontsize=8)

    reliability, axes = _figure("confidence", "share without regret")
    order = np.argsort(evaluation.confidence, kind="stable")
    parts = np.array_split(order, _RELIABILITY_BINS)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1.0)
    axes.plot(
        [evaluation.confidence[part].mean() for part in parts],
        [evaluation.right[part].mean() for part in parts],
        marker="o",
    )
    low = max(0.0, float(evaluation.confidence.min()) - 0.05)
    axes.set_xlim(low, 1.0)
    axes.set_ylim(low, 1.0)

    promise, axes = _figure("maxRisk", "share kept on the small model, %")
    rows = evaluation.report["guarantee"]
    axes.plot(
        [row["alpha"] for row in rows], [100 * row["kept"] for row in rows], marker="o", label="hybridroute"
    )
    axes.plot(
        [row["alpha"] for row in rows],
        [100 * row["kept_random"] for row in rows],
        marker="o",
        label="random router",
    )
    axes.legend()
    figures = {"cost_quality.png": cost, "reliability.png": reliability, "promise.png": promise}
    return [_save(figure, folder / name) for name, figure in figures.items()]


def plot_scope(evaluation: ScopeEvaluation, folder: Path) -> list[Path]:
    """Write the distributions of both kinds of rows; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = _figure("scope score", "share of rows")
    bins = np.linspace(0.0, 1.0, 41)
    for name, scores in (("in scope", evaluation.inside), ("out of scope", evaluation.outside)):
        axes.hist(scores, bins=bins, weights=np.full(scores.size, 1.0 / scores.size), alpha=0.6, label=name)
    axes.axvline(evaluation.threshold, color="0.2", linestyle="--", label="threshold")
    axes.legend()
    return [_save(figure, folder / "scope.png")]


def plot_drift(report: dict[str, Any], folder: Path) -> list[Path]:
    """Write delays by injected share; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = _figure("share of new traffic, %", "requests until an alarm")
    lengths = sorted({row["session_length"] for row in report["rows"]})
    for length in lengths:
        rows = [row for row in report["rows"] if row["session_length"] == length and "delay" in row]
        shares = [100 * row["rate"] for row in rows]
        line = axes.plot(
            shares, [row["delay"]["mean"] for row in rows], marker="o", label=f"mean, sessions of {length}"
        )
        axes.plot(
            shares,
            [row["delay"]["p95"] for row in rows],
            color=line[0].get_color(),
            linestyle=":",
            label=f"95 %, sessions of {length}",
        )
    axes.set_yscale("log")
    axes.legend()
    return [_save(figure, folder / "drift.png")]


def plot_report(report: Mapping[str, Any], file: Path) -> Path:
    """Write the cost-quality curve that `hybridroute report --json` prints, with today's point; return the file."""
    figure, axes = _figure("requests to the large model, %", "joint regret, %")
    for key, name in (
        ("regret", "of the certification rows"),
        ("regret_at_most", f"at most, delta {report['delta']:g}"),
    ):
        points = [point for point in report["points"] if point[key] is not None]
        axes.plot(
            [100 * (1 - point["kept_share"]) for point in points],
            [100 * point[key] for point in points],
            marker="o",
            markersize=3,
            label=name,
        )
    today = report["today"]
    across = 100 * (1 - today["kept_share"])
    spent = "" if today["llm_usd"] is None else f", {today['llm_usd']} USD"
    name = f"today: {100 - across:.1f} % kept{spent}"
    if today["regret"] is None:
        axes.axvline(across, color="0.2", linestyle="--", label=name)
    else:
        axes.plot([across], [100 * today["regret"]], color="0.2", linestyle="", marker="D", label=name)
    axes.set_xlim(-2, 102)
    axes.set_ylim(bottom=0.0)
    axes.legend(fontsize=8)
    axes.set_title(f"policy {report['artifact'][:12]}, {report['requests']} requests", fontsize=9)
    return _save(figure, file)


def _figure(across: str, up: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure).print_png(str(path))
    return path
