"""The ablation of gates on made-up traffic, half of whose topics nobody labelled."""

import numpy as np
import pytest

from hybridroute_lab.evaluation.gates import GatesPlan, ablate_gates
from hybridroute_lab.tables import DataError
from support.lab_rows import WordEmbedder, outcomes

PLAN = GatesPlan(labels=400, requests=400, max_risk=0.2, tighten_max_risk=0.1)


def test_each_gate_keeps_less_and_regrets_less() -> None:
    found = ablate_gates(outcomes(1_600), WordEmbedder(), seeds=1, plan=PLAN)
    assert list(found) == [
        "none", "scope", "confidence", "scope, confidence", "confidence, drift", "scope, confidence, drift",
    ]  # fmt: skip
    kept = {name: numbers["kept"]["mean"] for name, numbers in found.items()}
    regret = {name: numbers["joint_regret"]["mean"] for name, numbers in found.items()}
    assert kept["none"] == 1.0
    assert kept["scope, confidence, drift"] <= kept["scope, confidence"] <= kept["confidence"] < 1.0
    assert regret["scope, confidence, drift"] <= regret["scope, confidence"] <= regret["confidence"]
    assert regret["confidence"] < regret["none"]
    assert found["scope"]["kept_of_new"]["mean"] < 0.2
    for numbers in found.values():
        whole = 0.8 * numbers["joint_regret_of_known"]["mean"] + 0.2 * numbers["joint_regret_of_new"]["mean"]
        assert numbers["joint_regret"]["mean"] == pytest.approx(whole, abs=1e-3)


def test_too_few_rows_are_named() -> None:
    rows = outcomes(600)
    with pytest.raises(
        DataError, match="600 rows of 4 categories are too few for 400 labels and 400 requests"
    ):
        ablate_gates(rows.take(np.arange(600)), WordEmbedder(), seeds=1, plan=PLAN)
