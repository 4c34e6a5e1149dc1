"""What each score is worth: alone, and missing from the blend; and both parts of the scope gate.

    python benchmarks/routing_ablation.py ../shared/data/routellm_mmlu WEAK_COLUMN STRONG_COLUMN CLINC_TABLES

CLINC_TABLES is what `clinc150_tables.py` wrote. Prints JSON. Takes about five minutes on one core.
"""

import json
import sys
from pathlib import Path

from hybridroute_lab.evaluation.ablation import ablate_routing, ablate_scope
from hybridroute_lab.tables import read_labelled_texts, read_outcomes
from hybridroute_serve.routing.embedding import load_static_embedder


def main(data: Path, weak: str, strong: str, tables: Path) -> None:
    embedder = load_static_embedder()
    outcomes = read_outcomes([data], prompt_column="prompt", weak_column=weak, strong_column=strong)
    train, inside, outside = (
        read_labelled_texts([tables / f"{name}.csv"]) for name in ("train", "in", "out")
    )
    report = {
        "routing": ablate_routing(outcomes, embedder, labels=1_500, seeds=5),
        "scope": ablate_scope(train, inside, outside, embedder),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
