"""How many labels one needs: ranking and certified share by number of labels.

    python benchmarks/label_curve.py DATA --weak-column W --strong-column S [--labels 100,…] [--seeds 3] [--output DIR]

DATA and the columns are those of `hybridroute evaluate routing`. For each number of labels and each seed an artifact
learns from half of them and is certified with the other half, as `hybridroute calibrate` does by default. 4,000 rows
that none of the artifacts has seen judge all of them: APGR, the share that is kept at each maxRisk (delta 0.1), and the
true joint regret there. A router that guesses is certified with the same rows for comparison. Finished numbers of
labels are kept in `label_curve.json` and not run again. About four minutes on one core.
"""

import argparse
import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes, split_rows
from hybridroute_lab.certification.table import certify_thresholds
from hybridroute_lab.evaluation.metrics import cost_quality
from hybridroute_lab.scoring import score_prompts
from hybridroute_lab.tables import Outcomes, read_outcomes
from hybridroute_serve.routing.artifact.promise import PromiseTable
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder, load_static_embedder

Floats = NDArray[np.float64]

ALPHAS = (0.02, 0.05, 0.1)
DELTA = 0.1
JUDGING_ROWS = 4_000
GUESSED_POINTS = np.linspace(0.99, 0.0, 100)

Entry = dict[str, Any]


def measure(outcomes: Outcomes, embedder: Embedder, labels: int, seeds: int) -> Entry:
    """Return means over seeds for one number of labels. The judging rows of a seed do not depend on it."""
    rows: list[dict[str, float]] = []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(outcomes.prompts))
        judge = outcomes.take(order[:JUDGING_ROWS])
        mine = outcomes.take(order[JUDGING_ROWS : JUDGING_ROWS + labels])
        options = CalibrateOptions(seed=seed, drift_limits=False)
        scorer = ArtifactScorer.from_bytes(
            calibrate_outcomes(mine, embedder, date(1970, 1, 1), options), embedder
        )
        confidence = score_prompts([scorer], judge.prompts, embedder)[0].confidence
        promise = scorer.header.promise
        assert promise is not None
        row = {"apgr": cost_quality(1.0 - confidence, judge.weak, judge.strong).apgr}
        row |= _kept(promise, confidence, judge, "")
        held = mine.take(split_rows(labels, options)[1])
        guessed = certify_thresholds(GUESSED_POINTS, rng.random(promise.rows), held.weak, held.strong)
        row |= _kept(guessed, rng.random(JUDGING_ROWS), judge, " by guessing")
        lowest = min(point.upper[f"{DELTA:g}"] for point in promise.points)
        rows.append(row | {"lowest maxRisk": lowest})
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}
    spread = round(float(np.std([row["apgr"] for row in rows])), 4)
    return {"labels": labels, "seeds": seeds, "apgr_std": spread, **means}


def _kept(table: PromiseTable, confidence: Floats, judge: Outcomes, suffix: str) -> dict[str, float]:
    found = {}
    for alpha in ALPHAS:
        threshold = table.threshold_for(alpha, DELTA).threshold
        kept = confidence >= threshold if threshold is not None else np.zeros(confidence.size, dtype=np.bool_)
        found[f"kept at {alpha:g}{suffix}"] = float(kept.mean())
        found[f"risk at {alpha:g}{suffix}"] = float((judge.regret * kept).mean())
    return found


def write_page(entries: list[Entry], folder: Path, command: str) -> None:
    lines = [
        "# How many labels one needs",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, `{command}`, on RouteLLM's MMLU pair: half of the labels teach, half certify; "
        f"{JUDGING_ROWS:,} other rows judge; means of {entries[0]['seeds']} seeds, delta {DELTA:g}. In brackets a "
        "router that guesses, under the same certificate. `Lowest maxRisk`: no smaller one keeps anything.",
        "",
        "| labels | APGR | lowest maxRisk | "
        + " | ".join(f"kept at maxRisk {alpha:g}" for alpha in ALPHAS)
        + " |",
        "|---" * (3 + len(ALPHAS)) + "|",
    ]
    for entry in entries:
        kept = [
            f"{100 * entry[f'kept at {alpha:g}']:.1f} % ({100 * entry[f'kept at {alpha:g} by guessing']:.1f} %)"
            for alpha in ALPHAS
        ]
        lines.append(
            f"| {entry['labels']:,} | {entry['apgr']:.3f} ± {entry['apgr_std']:.3f} | {entry['lowest maxRisk']:.4f} "
            f"| {' | '.join(kept)} |"
        )
    lines += ["", "![kept and APGR by labels](label_curve.png)"]
    (folder / "label_curve.md").write_text("\n".join(lines) + "\n")
    _plot(entries, folder / "label_curve.png")


def _plot(entries: list[Entry], path: Path) -> None:
    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    labels = [entry["labels"] for entry in entries]
    for alpha, colour in zip(ALPHAS, ("#c0392b", "#5b8db8", "#2e7d5b"), strict=True):
        left.plot(
            labels, [100 * entry[f"kept at {alpha:g}"] for entry in entries], marker="o", color=colour,
            label=f"maxRisk {alpha:g}",
        )  # fmt: skip
        left.plot(
            labels,
            [100 * entry[f"kept at {alpha:g} by guessing"] for entry in entries],
            color=colour,
            linestyle=":",
        )
    left.set_ylabel("kept, % (dotted: guessing)")
    left.legend(fontsize=8)
    right.errorbar(
        labels, [entry["apgr"] for entry in entries], [entry["apgr_std"] for entry in entries], marker="o",
        color="#5b8db8", capsize=3,
    )  # fmt: skip
    right.set_ylabel("APGR of the certified artifact")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(labels, [f"{count:,}" for count in labels], fontsize=8)
        axes.minorticks_off()
        axes.set_xlabel("labels")
        axes.grid(alpha=0.3)
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompt-column", default="prompt")
    parser.add_argument("--weak-column", required=True)
    parser.add_argument("--strong-column", required=True)
    parser.add_argument("--labels", default="100,200,400,800,1500,3000,6000")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    outcomes = read_outcomes(
        [options.data],
        prompt_column=options.prompt_column,
        weak_column=options.weak_column,
        strong_column=options.strong_column,
    )
    sizes = [int(size) for size in options.labels.split(",")]
    if len(outcomes.prompts) < JUDGING_ROWS + max(sizes):
        parser.error(
            f"{len(outcomes.prompts)} rows are too few for {max(sizes)} labels and {JUDGING_ROWS} to judge"
        )
    store = options.output / "label_curve.json"
    stored: list[Entry] = json.loads(store.read_text()) if store.is_file() else []
    entries = {entry["labels"]: entry for entry in stored if entry["seeds"] == options.seeds}
    embedder = load_static_embedder()
    options.output.mkdir(parents=True, exist_ok=True)
    for size in sizes:
        if size not in entries:
            entries[size] = measure(outcomes, embedder, size, options.seeds)
            store.write_text(
                json.dumps(sorted(entries.values(), key=lambda one: one["labels"]), indent=1) + "\n"
            )
            print(entries[size], flush=True)
    command = (
        f"python benchmarks/label_curve.py DATA --weak-column W --strong-column S --seeds {options.seeds}"
    )
    write_page([entries[size] for size in sizes], options.output, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
