"""What each score and each gate is worth: alone, and missing.

    python benchmarks/routing_ablation.py DATA CLINC_TABLES --weak-column W --strong-column S [--output FOLDER]

DATA and the columns are those of `hybridroute evaluate routing`, where a file is a category; CLINC_TABLES is what
`clinc150_tables.py` wrote. Three tables: the scores of the confidence, the parts of the scope gate, and the gates on
traffic of which a fifth is of categories that nobody labelled. About seven minutes on one core.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hybridroute_lab.evaluation.ablation import ablate_routing, ablate_scope
from hybridroute_lab.evaluation.gates import GatesPlan, ablate_gates
from hybridroute_lab.tables import read_labelled_texts, read_outcomes
from hybridroute_serve.routing.embedding import load_static_embedder

LABELS = 1_500
Report = dict[str, Any]


def write_page(report: Report, seeds: int, path: Path) -> None:
    plan = GatesPlan()
    blend = report["routing"]["all"]["mean"]
    lines = [
        "# What each score and each gate is worth",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, `python benchmarks/routing_ablation.py DATA CLINC_TABLES --weak-column W "
        f"--strong-column S --seeds {seeds}`.",
        "",
        f"## Scores of the confidence: APGR on RouteLLM's MMLU pair, {LABELS:,} labels, {seeds} seeds",
        "",
        "| scores | APGR | against all |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {found['mean']:.4f} ± {found['std']:.4f} | {found['mean'] - blend:+.4f} |"
        for name, found in report["routing"].items()
    ]
    lines += ["", "## Parts of the scope gate: AUROC on CLINC150", "", "| part | AUROC |", "|---|---|"]
    lines += [f"| {name} | {found:.4f} |" for name, found in report["scope"].items()]
    lines += [
        "",
        f"## Gates: {100 * plan.new_share:.0f} % of {plan.requests:,} MMLU requests are of unlabelled subjects",
        "",
        f"{plan.labels:,} labels of half of the subjects; maxRisk {plan.max_risk:g}, after a drift alarm "
        f"{plan.tighten_max_risk:g}; delta {plan.delta:g}; {seeds} seeds. The promise is about the known subjects.",
        "",
        "| gates | kept | kept of the new | joint regret | of the known | of the new |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in report["gates"].items():
        keys = ("kept", "kept_of_new", "joint_regret", "joint_regret_of_known", "joint_regret_of_new")
        lines.append(f"| {name} | " + " | ".join(f"{100 * found[key]['mean']:.1f} %" for key in keys) + " |")
    path.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--weak-column", required=True)
    parser.add_argument("--strong-column", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    embedder = load_static_embedder()
    outcomes = read_outcomes(
        [options.data],
        prompt_column="prompt",
        weak_column=options.weak_column,
        strong_column=options.strong_column,
    )
    train, inside, outside = (
        read_labelled_texts([options.tables / f"{name}.csv"]) for name in ("train", "in", "out")
    )
    report: Report = {
        "routing": ablate_routing(outcomes, embedder, labels=LABELS, seeds=options.seeds),
        "gates": ablate_gates(outcomes, embedder, seeds=options.seeds),
        "scope": ablate_scope(train, inside, outside, embedder),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "routing_ablation.json").write_text(json.dumps(report, indent=1) + "\n")
    write_page(report, options.seeds, options.output / "routing_ablation.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
