"""The promise on traffic whose risk is known: certify fresh draws, look the true risk up, count what broke.

    python benchmarks/promise_draws.py [--draws 2000] [--curves touches,…] [--output FOLDER]

Confidence is uniform, so that a threshold t keeps the share 1 - t, and the joint regret of each share is a formula:

    touches     rises to alpha at 60 % kept, lies on it to 65 %, then rises steeply
    passes      rises through alpha at 50 % kept and does not stop
    just above  lies one thousandth of alpha above it from 30 % kept on: all of the rest breaks the promise

A draw is a set of rows with outcomes; it is certified as `hybridroute calibrate` does, and the promise is broken when
the known risk at the promised threshold is above alpha. Graded regret is 0.5 or 1 with the same mean. Exits with 1 when
the 99 % lower bound of a violation share is above delta, or when less than half of what the curve allows is kept at
alpha 0.05 or 0.10 by 750 rows or more on the curve that touches alpha. About three minutes on one core.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import stats

from hybridroute_lab.certification.table import certify_thresholds

Floats = NDArray[np.float64]

DELTA = 0.1
ALPHAS = (0.02, 0.05, 0.1)
ROWS = (300, 750, 2_000)
GRADED_ROWS = 2_000
POINTS = {False: 200, True: 40}
"""Thresholds, as `choose_thresholds` takes them for 0/1 labels and graded ones."""
STEEP = 0.8
"""Chance of regret where a curve has passed alpha."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A joint regret by share kept: straight pieces from corner to corner."""

    kept: Floats
    risk: Floats

    def risk_at(self, kept: float) -> float:
        return float(np.interp(kept, self.kept, self.risk))

    def regret_chance(self, kept: Floats) -> Floats:
        """Return the chance of regret of the row that this share keeps last."""
        slopes = np.diff(self.risk) / np.diff(self.kept)
        piece = np.clip(np.searchsorted(self.kept, kept, side="right") - 1, 0, slopes.size - 1)
        return np.asarray(slopes[piece])

    def allowed(self, alpha: float) -> float:
        """Return the largest share that may be kept."""
        shares = np.linspace(0.0, 1.0, 100_001)
        fits = np.interp(shares, self.kept, self.risk) <= alpha + 1e-12
        return float(shares[fits].max())


def touches(alpha: float) -> Curve:
    return Curve(
        np.array([0.0, 0.3, 0.6, 0.65, 1.0]), np.array([0.0, alpha / 4, alpha, alpha, alpha + 0.35 * STEEP])
    )


def passes(alpha: float) -> Curve:
    return Curve(np.array([0.0, 0.25, 1.0]), np.array([0.0, alpha / 4, alpha / 4 + 0.75 * 3 * alpha]))


def just_above(alpha: float) -> Curve:
    return Curve(np.array([0.0, 0.3, 1.0]), np.array([0.0, 1.001 * alpha, 1.001 * alpha + 1e-9]))


CURVES: dict[str, Callable[[float], Curve]] = {"touches": touches, "passes": passes, "just above": just_above}


@dataclass(frozen=True, slots=True)
class Result:
    curve: str
    graded: bool
    alpha: float
    rows: int
    draws: int
    violations: int
    at_least: float
    """99 % lower bound on the share of violations."""
    kept: float
    allowed: float

    @property
    def holds(self) -> bool:
        demanding = self.curve == "touches" and self.alpha >= 0.05 and self.rows >= 750
        return self.at_least <= DELTA and (not demanding or self.graded or self.kept >= 0.5 * self.allowed)


def simulate(
    name: str, alpha: float, rows: int, *, draws: int, graded: bool, rng: np.random.Generator
) -> Result:
    """Certify fresh draws of one curve, and compare each promise with the known risk."""
    curve = CURVES[name](alpha)
    thresholds = np.linspace(1.0, 0.0, POINTS[graded] + 1)
    violations = 0
    kept: list[float] = []
    for _ in range(draws):
        confidence = rng.random(rows)
        regret = (rng.random(rows) < curve.regret_chance(1.0 - confidence)).astype(np.float64)
        if graded:
            regret = _grade(confidence, curve, rng)
        table = certify_thresholds(thresholds, confidence, 1.0 - regret, np.ones(rows), (DELTA,))
        threshold = table.threshold_for(alpha, DELTA).threshold
        share = 0.0 if threshold is None else 1.0 - threshold
        violations += curve.risk_at(share) > alpha + 1e-12
        kept.append(share)
    at_least = float(stats.beta.ppf(0.01, violations, draws - violations + 1)) if violations else 0.0
    return Result(
        name, graded, alpha, rows, draws, violations, round(at_least, 4), round(float(np.mean(kept)), 4),
        round(curve.allowed(alpha), 4),
    )  # fmt: skip


def _grade(confidence: Floats, curve: Curve, rng: np.random.Generator) -> Floats:
    """Return regrets of 0, 0.5 and 1 whose mean at each confidence is the curve's."""
    mean = curve.regret_chance(1.0 - confidence)
    drawn = rng.random(confidence.size)
    whole = mean / 2.0
    return np.where(drawn < whole, 1.0, np.where(drawn < whole + mean, 0.5, 0.0))


def run_all(draws: int, curves: list[str], seed: int = 0) -> list[Result]:
    rng = np.random.default_rng(seed)
    results = []
    for name in curves:
        for alpha in ALPHAS:
            sizes = [(rows, False) for rows in ROWS] + [(GRADED_ROWS, True)]
            for rows, graded in sizes:
                results.append(simulate(name, alpha, rows, draws=draws, graded=graded, rng=rng))
                print(results[-1], file=sys.stderr, flush=True)
    return results


def write_results(results: list[Result], folder: Path, command: str) -> None:
    """Write table, numbers and plot."""
    draws = results[0].draws
    lines = [
        "# The promise on traffic with known risk",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`: {draws:,} fresh draws a row, delta {DELTA:g}. `At least` is the "
        "99 % lower bound of the share of draws whose promise was broken; it must not pass delta. The curves are "
        "described in the script.",
        "",
        "| curve | labels | maxRisk | certification rows | broken | at least | kept | the curve allows | of that |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.curve} | {'graded' if one.graded else '0/1'} | {one.alpha:g} | {one.rows:,} "
        f"| {100 * (one.violations / one.draws):.2f} % | {100 * one.at_least:.2f} % "
        f"| {100 * one.kept:.1f} % | {100 * one.allowed:.1f} % "
        f"| {100 * (one.kept / one.allowed):.0f} % |"
        for one in results
    ]
    worst = max(results, key=lambda one: one.violations)
    lines += [
        "",
        f"The most that broke: {worst.violations} of {worst.draws:,} ({worst.curve}, maxRisk {worst.alpha:g}, "
        f"{worst.rows:,} rows).",
        "",
        "![kept of what the curve allows](promise_draws.png)",
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "promise_draws.md").write_text("\n".join(lines) + "\n")
    (folder / "promise_draws.json").write_text(json.dumps([asdict(one) for one in results], indent=1) + "\n")
    _plot(results, folder / "promise_draws.png")


def _plot(results: list[Result], path: Path) -> None:
    names = list(dict.fromkeys(one.curve for one in results))
    figure = Figure(figsize=(1.2 + 2.6 * len(names), 3.4), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(name, loc="left", fontsize=10)
        for alpha in ALPHAS:
            mine = [one for one in results if one.curve == name and one.alpha == alpha and not one.graded]
            axes.plot(
                [one.rows for one in mine],
                [100 * one.kept / one.allowed for one in mine],
                marker="o",
                label=f"maxRisk {alpha:g}",
            )
        axes.set_xscale("log")
        axes.set_xticks(ROWS, [f"{rows:,}" for rows in ROWS])
        axes.minorticks_off()
        axes.set_xlabel("certification rows")
        axes.set_ylim(0, 105)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("kept, % of what the curve allows")
    panels[-1].legend(fontsize=8, loc="lower right")
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument("--curves", default=",".join(CURVES), help="separated by commas")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    results = run_all(options.draws, options.curves.split(","))
    command = f'python benchmarks/promise_draws.py --draws {options.draws} --curves "{options.curves}"'
    write_results(results, options.output, command)
    return 0 if all(one.holds for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
