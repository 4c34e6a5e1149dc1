"""Each domain of CLINC150 held out in turn: how soon the charts notice it, and how often they ring for nothing.

    python benchmarks/drift_domains.py TABLES [--requests 10000000] [--domains banking,…] [--output FOLDER]

TABLES is what `clinc150_tables.py` wrote. For each domain this is `hybridroute evaluate drift` with its tables `base`
and `shift`: the artifact, the charts' limits and the replay each use rows of their own. Finished domains are kept in
`drift_domains.json` and not run again while it was made with as many requests. Exits with 1 when the charts ring more
than once in 100,000 requests of all domains together, or when at 20 % new traffic the median domain's mean delay passes
150 requests or the worst domain's 95th percentile 900. About a minute a domain on one core.
"""

import argparse
import json
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from hybridroute_lab.evaluation.drift import DriftPlan, evaluate_drift
from hybridroute_lab.tables import read_labelled_texts
from hybridroute_serve.routing.embedding import load_static_embedder

RATES = (0.05, 0.2, 0.5)
SESSION_LENGTHS = (1, 6)
JUDGED_RATE = 0.2
MOST_FALSE_ALARMS_PER_100000 = 1.0
MOST_MEDIAN_DELAY = 150.0
MOST_WORST_P95 = 900.0

Reports = dict[str, dict[str, Any]]


def run_domains(tables: Path, domains: list[str], requests: int, store: Path) -> Reports:
    """Evaluate what is not in the store yet, and write the store after each domain."""
    stored: Reports = json.loads(store.read_text()) if store.is_file() else {}
    reports = {name: report for name, report in stored.items() if report["requests"] == requests}
    embedder = load_static_embedder()
    for domain in domains:
        if domain in reports:
            continue
        base, shift = (read_labelled_texts([tables / f"{kind}-{domain}.csv"]) for kind in ("base", "shift"))
        reports[domain] = evaluate_drift(
            base,
            shift,
            embedder,
            rates=RATES,
            session_lengths=SESSION_LENGTHS,
            plan=DriftPlan(undrifted_requests=requests, baselines=False),
        )
        store.parent.mkdir(parents=True, exist_ok=True)
        store.write_text(json.dumps(reports, indent=1) + "\n")
        print(domain, reports[domain]["false_alarms_per_100000"], reports[domain]["rows"], flush=True)
    return {domain: reports[domain] for domain in domains}


def false_alarms(reports: Reports, length: int) -> float:
    """Return false alarms per 100,000 requests over all domains."""
    return statistics.fmean(report["false_alarms_per_100000"][str(length)] for report in reports.values())


def delays(report: dict[str, Any], rate: float, length: int) -> dict[str, float]:
    """Return mean and 95th percentile of one domain's delay."""
    row = next(row for row in report["rows"] if row["rate"] == rate and row["session_length"] == length)
    return {**row["delay"], "missed": row["missed"]}


def median_mean(reports: Reports, rate: float, length: int) -> float:
    return statistics.median(delays(report, rate, length)["mean"] for report in reports.values())


def worst_p95(reports: Reports, rate: float, length: int) -> float:
    return max(delays(report, rate, length)["p95"] for report in reports.values())


def holds(reports: Reports) -> bool:
    """Tell whether all bars are met."""
    return all(
        false_alarms(reports, length) <= MOST_FALSE_ALARMS_PER_100000
        and median_mean(reports, JUDGED_RATE, length) <= MOST_MEDIAN_DELAY
        and worst_p95(reports, JUDGED_RATE, length) <= MOST_WORST_P95
        for length in SESSION_LENGTHS
    )


def write_page(reports: Reports, requests: int, folder: Path) -> None:
    """Write table and plot."""
    horizon = DriftPlan().horizon
    lines = [
        "# Drift: each domain of CLINC150 held out in turn",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, `python benchmarks/drift_domains.py TABLES --requests {requests}`: "
        f"{requests:,} undrifted requests a domain and session length, {DriftPlan().streams} drifting streams a row, "
        f"{horizon:,} requests at most (a stream that never rang counts with that many). Artifact, limits and replay "
        "use rows of their own. Delays count from the first session that may be new.",
        "",
        "| session length | false alarms per 100,000, all domains | worst domain | new traffic "
        "| median domain's mean delay | worst domain's mean | worst domain's p95 | worst domain's missed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for length in SESSION_LENGTHS:
        worst = max(report["false_alarms_per_100000"][str(length)] for report in reports.values())
        for rate in RATES:
            each = [delays(report, rate, length) for report in reports.values()]
            lines.append(
                f"| {length} | {false_alarms(reports, length):.3f} | {worst:.3f} | {100 * rate:.0f} % "
                f"| {median_mean(reports, rate, length):.0f} | {max(one['mean'] for one in each):.0f} "
                f"| {worst_p95(reports, rate, length):.0f} | {100 * max(one['missed'] for one in each):.1f} % |"
            )
    lines += [
        "",
        f"At {100 * JUDGED_RATE:.0f} % new traffic, by domain:",
        "",
        "| domain | sessions of 1: false alarms | mean | p95 | sessions of 6: false alarms | mean | p95 |",
        "|---|---|---|---|---|---|---|",
    ]
    for domain, report in reports.items():
        cells = []
        for length in SESSION_LENGTHS:
            found = delays(report, JUDGED_RATE, length)
            alarms = report["false_alarms_per_100000"][str(length)]
            cells.append(f"{alarms:.3f} | {found['mean']:.0f} | {found['p95']:.0f}")
        lines.append(f"| {domain} | {' | '.join(cells)} |")
    lines += ["", "![delay by domain](drift_domains.png)"]
    (folder / "drift_domains.md").write_text("\n".join(lines) + "\n")
    _plot(reports, folder / "drift_domains.png")


def _plot(reports: Reports, path: Path) -> None:
    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    panels = figure.subplots(1, len(SESSION_LENGTHS), sharey=True)
    for axes, length in zip(panels, SESSION_LENGTHS, strict=True):
        axes.set_title("single requests" if length == 1 else f"sessions of {length}", loc="left", fontsize=10)
        for domain, report in reports.items():
            means = [delays(report, rate, length)["mean"] for rate in RATES]
            axes.plot([100 * rate for rate in RATES], means, marker=".", linewidth=1.0, label=domain)
        medians = [median_mean(reports, rate, length) for rate in RATES]
        axes.plot(
            [100 * rate for rate in RATES],
            medians,
            color="0.1",
            linewidth=2.5,
            label="median domain",
            zorder=0,
        )
        axes.set_yscale("log")
        axes.set_xticks([100 * rate for rate in RATES])
        axes.set_xlabel("share of new traffic, %")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("mean requests until an alarm")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8, frameon=False
    )
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tables", type=Path)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--domains", default="", help="separated by commas; all by default")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    everything = sorted(path.stem.removeprefix("shift-") for path in options.tables.glob("shift-*.csv"))
    domains = options.domains.split(",") if options.domains else everything
    if not domains:
        parser.error(
            f"{options.tables} holds no shift-<domain>.csv: write it with benchmarks/clinc150_tables.py"
        )
    store = options.output / "drift_domains.json"
    reports = run_domains(options.tables, domains, options.requests, store)
    write_page(reports, options.requests, options.output)
    return 0 if holds(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
