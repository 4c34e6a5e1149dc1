"""Write CLINC150 as the tables that `hybridroute evaluate scope` and `evaluate drift` read.

    python benchmarks/clinc150_tables.py ../shared/data/clinc150 OUT

OUT gets `train.csv`, `in.csv` and `out.csv` for scope, and for drift `base-<domain>.csv` (every in-scope row but that
domain's) with `shift-<domain>.csv` (that domain's rows). The data is not part of this project.
"""

import csv
import json
import sys
from pathlib import Path

Rows = list[tuple[str, str]]


def main(source: Path, target: Path) -> None:
    data = json.loads((source / "data_full.json").read_text())
    domains = json.loads((source / "domains.json").read_text())
    target.mkdir(parents=True, exist_ok=True)
    write(target / "train.csv", data["train"])
    write(target / "in.csv", data["test"])
    write(target / "out.csv", data["oos_test"])
    rows = [*data["train"], *data["val"], *data["test"]]
    for domain, intents in domains.items():
        write(target / f"base-{domain}.csv", [row for row in rows if row[1] not in intents])
        write(target / f"shift-{domain}.csv", [row for row in rows if row[1] in intents])


def write(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
