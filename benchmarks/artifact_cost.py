"""What an artifact costs a router: a decision's scores on one core, loading, memory, and what it imports.

    python -m benchmarks.artifact_cost ARTIFACT [--rounds 3000] [--json]

Timed is everything from the last user message to its scores: routing text, embedding, features, confidence, scope; the
gates are not in it, `decision.py` times them. `load` reads, verifies and rebuilds the artifact, without the embedding.
`memory` is the resident size that embedding, artifact and their packages add to a process with none of them, after
decisions at every length. The embedding is the one that the artifact names; the limits are the static one's. Exits
with 1 when the cpu's p99 passes 1.5 ms for prompts to 2,000 characters or 3 ms at any length, loading 200 ms, memory
150 MB, or when scikit-learn or scipy was imported.
"""

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import asdict
from pathlib import Path

import psutil

LOADS = 20
LOAD_LIMIT_MILLISECONDS = 200.0
MEMORY_LIMIT_MB = 150.0
OFFLINE_ONLY = ("sklearn", "scipy")


def resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=3_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before any library starts threads
    data = options.artifact.read_bytes()
    bare = resident_mb()

    from hybridroute_serve.routing.artifact.file import decode_artifact  # noqa: PLC0415 - its memory is measured
    from hybridroute_serve.routing.artifact.scorer import ArtifactScorer  # noqa: PLC0415
    from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415
    from hybridroute_serve.routing.text import routing_text  # noqa: PLC0415

    begun = time.process_time()
    embedder = load_embedder(decode_artifact(data).header.embedding_name)
    embedding_load = (time.process_time() - begun) * 1e3
    scorer = ArtifactScorer.from_bytes(data, embedder)
    for length in (10, 200, 2_000, 100_000):
        scorer.score_text(routing_text("one decision " * length))
    memory = resident_mb() - bare
    spent = []
    for _ in range(LOADS):
        begun = time.process_time()
        ArtifactScorer.from_bytes(data, embedder)
        spent.append((time.process_time() - begun) * 1e3)
    load = statistics.median(spent)
    imported = [name for name in OFFLINE_ONLY if name in sys.modules]

    from benchmarks.decision import KINDS, LENGTHS, measure  # noqa: PLC0415 - imports much of the project

    rows = [
        measure(lambda prompt: scorer.score_text(routing_text(prompt)), kind, length, options.rounds)
        for kind in KINDS
        for length in LENGTHS
    ]
    report = {
        "artifact_bytes": len(data),
        "embedding": embedder.name,
        "embedding_load_ms": round(embedding_load, 1),
        "load_ms": round(load, 1),
        "memory_mb": round(memory, 1),
        "imported": imported,
        "decisions": [asdict(row) for row in rows],
    }
    if options.json:
        print(json.dumps(report))
    else:
        print(
            f"{len(data):,} bytes, loaded in {load:.1f} ms, {memory:.0f} MB with embedding {embedder.name}, "
            f"which loads in {embedding_load:.0f} ms"
        )
        print(f"{'microseconds':10}          cpu p50    cpu p99   wall p50   wall p99      limit")
        for row in rows:
            print(
                f"{row.prompt:10} {row.characters:>9,} {row.cpu_p50_us:>10.0f} {row.cpu_p99_us:>10.0f} "
                f"{row.wall_p50_us:>10.0f} {row.wall_p99_us:>10.0f} {row.limit_us:>10.0f}"
            )
    quick = all(row.cpu_p99_us < row.limit_us for row in rows)
    small = load < LOAD_LIMIT_MILLISECONDS and memory < MEMORY_LIMIT_MB and not imported
    return 0 if quick and small else 1


if __name__ == "__main__":
    sys.exit(main())
