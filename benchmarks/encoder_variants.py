"""Which form of MiniLM to route with: float32 or integers of 8 bits, both ends of 127 pieces or of 63.

    python -m benchmarks.encoder_variants DATA --weak-column W --strong-column S [--variant NAME…] [--seeds 3]

For each variant: a text's processor time, the cosine of its vectors to those of float32 with 127 pieces, and what
`evaluate routing` says. `int8` is what ONNX Runtime's dynamic quantisation makes of the product's own graph, a scale a
column; it is made here and nowhere else. `static` is the static embedding, for comparison.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx.external_data_helper import load_external_data_for_model
from onnxruntime.quantization import QuantType, quantize_dynamic

from hybridroute_cli.lab import need_lab
from hybridroute_serve.routing import encoder
from hybridroute_serve.routing.embedding import Embedder, Vector, load_static_embedder
from hybridroute_serve.routing.encoder_graph import IDS, VECTOR, build_encoder_graph
from hybridroute_serve.routing.text import routing_text

SHORTER = 63
COMPARED = 500


def quantised() -> Callable[[Vector], Vector]:
    """Return what runs the graph in 8 bits."""
    folder = encoder._find_folder()
    graph = build_encoder_graph(encoder._read_places(folder / encoder._WEIGHTS), encoder._WEIGHTS)
    load_external_data_for_model(graph, str(folder))
    for tensor in graph.graph.initializer:
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as made:
        whole, small = Path(made) / "whole.onnx", Path(made) / "small.onnx"
        onnx.save(graph, whole)
        kinds = ["MatMul", "Gemm"]
        # Seven bits of eight, so that no sum overflows on processors without instructions for it.
        quantize_dynamic(
            whole,
            small,
            op_types_to_quantize=kinds,
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )
        session = onnxruntime.InferenceSession(str(small), options, providers=["CPUExecutionProvider"])
    return lambda ids: session.run([VECTOR], {IDS: ids})[0]


def load(variant: str) -> Embedder:
    if variant == "static":
        return load_static_embedder()
    encoder.SIDE_PIECES = SHORTER if "63" in variant else 127
    made = encoder.load_encoder()
    return dataclasses.replace(made, run=quantised()) if variant.startswith("int8") else made


VARIANTS = ("static", "float32, 127", "float32, 63", "int8, 127", "int8, 63")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--prompt-column", default="prompt")
    parser.add_argument("--weak-column", required=True)
    parser.add_argument("--strong-column", required=True)
    parser.add_argument("--variant", action="append", choices=VARIANTS)
    parser.add_argument("--labels", type=int, default=1_500)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    need_lab()
    from hybridroute_lab.evaluation.routing import evaluate_routing  # noqa: PLC0415 - loads scipy
    from hybridroute_lab.remembered import RememberingEmbedder  # noqa: PLC0415
    from hybridroute_lab.tables import read_outcomes  # noqa: PLC0415

    outcomes = read_outcomes(
        [options.data],
        prompt_column=options.prompt_column,
        weak_column=options.weak_column,
        strong_column=options.strong_column,
    )
    texts = list(dict.fromkeys(map(routing_text, outcomes.prompts)))
    rows: list[dict[str, Any]] = []
    for variant in options.variant or VARIANTS:
        embedder = load(variant)
        known = RememberingEmbedder(embedder)
        spent = []
        for text in texts:
            begun = time.thread_time()
            known.embed(text)
            spent.append((time.thread_time() - begun) * 1e3)
        report = evaluate_routing(
            outcomes, known, labels=options.labels, seeds=options.seeds, clock=time.thread_time
        ).report
        row = {
            "variant": variant,
            "text_ms": {
                "p50": round(float(np.median(spent)), 2),
                "p99": round(float(np.percentile(spent, 99)), 2),
            },
            "apgr": report["apgr"],
            "cpt50": report["cpt50"],
            "auroc": report["auroc"],
            "certified": report["certified"],
            "knn_apgr": report["baselines"]["knn"]["apgr"],
        }
        if variant not in ("static", "float32, 127"):
            reference = load("float32, 127")
            alike = [float(known.embed(text) @ reference.embed(text)) for text in texts[:COMPARED]]
            row["cosine"] = {"mean": round(float(np.mean(alike)), 4), "least": round(min(alike), 4)}
        rows.append(row)
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
