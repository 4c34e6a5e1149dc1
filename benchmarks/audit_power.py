"""How soon the audit rings when both paths' answers grow apart, and how often for nothing: simulated pairs, the real
e-process.

    python benchmarks/audit_power.py [--routes 400]

Each route makes the pairs that say what is usual, with a share of different ones, and then up to 2,000 more with
another share. Prints a table in markdown: how many of the routes rang, and after how many pairs since the change. The
rows in which nothing changes count false alarms. A minute on one core.
"""

import argparse

import numpy as np
from numpy.random import Generator

from hybridroute_serve.routing.drift.disagreement import (
    BASELINE_COMPARISONS,
    FALSE_ALARM,
    DisagreementState,
    disagreement_level,
    observe_disagreement,
)

MOST_PAIRS = 2_000
CHANGES = (
    *((0.02, 0.1), (0.02, 0.2), (0.05, 0.2), (0.1, 0.2), (0.1, 0.3), (0.2, 0.4), (0.2, 0.6), (0.5, 0.8)),
    *((0.02, 0.02), (0.1, 0.1), (0.5, 0.5)),
)


def pairs_until_alarm(usual: float, later: float, rng: Generator) -> float:
    """Return how many pairs since the change one route needs; infinity when it does not ring."""
    state = DisagreementState()
    for differs in rng.random(BASELINE_COMPARISONS) < usual:
        state = observe_disagreement(state, float(differs))
    for number, differs in enumerate(rng.random(MOST_PAIRS) < later, start=1):
        state = observe_disagreement(state, float(differs))
        if disagreement_level(state) >= 1.0:
            return float(number)
    return float("inf")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, default=400)
    routes = parser.parse_args().routes
    print(
        f"{routes} routes a row, {BASELINE_COMPARISONS} pairs that say what is usual, FALSE_ALARM {FALSE_ALARM}\n"
    )
    print("| usually differ | later differ | rang within 2,000 pairs | median pairs | 90th percentile |")
    print("|---|---|---|---|---|")
    for usual, later in CHANGES:
        rng = np.random.default_rng(0)
        waits = np.array([pairs_until_alarm(usual, later, rng) for _ in range(routes)])
        rang = float(np.isfinite(waits).mean())
        median, late = (np.quantile(waits, level, method="higher") for level in (0.5, 0.9))
        print(f"| {usual:.0%} | {later:.0%} | {rang:.1%} | {_count(median)} | {_count(late)} |")


def _count(pairs: float) -> str:
    return f"{pairs:.0f}" if np.isfinite(pairs) else "-"


if __name__ == "__main__":
    main()
