"""The three evaluations end to end on made-up data: shapes of the reports, and numbers in the right places."""

from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from hybridroute_lab.evaluation.baselines import BASELINES
from hybridroute_lab.evaluation.drift import DriftPlan, evaluate_drift
from hybridroute_lab.evaluation.plots import plot_drift, plot_routing, plot_scope
from hybridroute_lab.evaluation.routing import evaluate_routing
from hybridroute_lab.evaluation.scope import evaluate_scope
from hybridroute_lab.tables import DataError
from support.lab_rows import TOPICS, WordEmbedder, labelled_texts, outcomes, strange_texts


def ticking() -> float:
    return next(_TICKS) * 1e-3


_TICKS = count()


@pytest.fixture(scope="module")
def embedder() -> WordEmbedder:
    return WordEmbedder()


def test_routing(embedder: WordEmbedder, tmp_path: Path) -> None:
    evaluation = evaluate_routing(outcomes(1_200), embedder, labels=400, seeds=2, clock=ticking)
    report = evaluation.report
    assert set(report) == {
        "apgr", "cpt50", "cpt80", "auroc", "ece", "decision_us", "certified", "guarantee", "baselines",
        "near_duplicates", "data",
    }  # fmt: skip
    for name in ("apgr", "cpt50", "cpt80", "auroc", "ece"):
        assert report[name].keys() == {"mean", "std"}
    assert report["apgr"]["mean"] > 0.6
    assert report["certified"]["apgr"]["mean"] > 0.6
    assert report["decision_us"] == {"p50": 1_000.0, "p99": 1_000.0}
    assert report["baselines"].keys() == BASELINES.keys()
    assert report["baselines"]["random"]["apgr"]["mean"] == pytest.approx(0.5, abs=0.06)
    assert report["baselines"]["oracle"]["apgr"]["mean"] > report["apgr"]["mean"]
    for row in report["guarantee"]:
        assert row.keys() == {
            "alpha", "delta", "kept", "kept_random", "risk", "violation_share", "violation_limit",
        }  # fmt: skip
        assert row["violation_share"] <= row["violation_limit"]
    assert [row["alpha"] for row in report["guarantee"]] == [0.02, 0.05, 0.1]
    assert report["data"]["rows"] == 1_200
    gained = report["baselines"]["random"]["apgr_gained"]["mean"]
    assert gained == pytest.approx(
        report["apgr"]["mean"] - report["baselines"]["random"]["apgr"]["mean"], abs=2e-4
    )
    drawn = plot_routing(evaluation, tmp_path / "plots")
    assert [path.name for path in drawn] == ["cost_quality.png", "reliability.png", "promise.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in drawn)


def test_routing_does_not_read_categories(embedder: WordEmbedder) -> None:
    rows = outcomes(700)
    renamed = replace(rows, categories=tuple(str(number % 7) for number in range(700)))
    first, second = (
        evaluate_routing(each, embedder, labels=300, seeds=1, clock=ticking).report
        for each in (rows, renamed)
    )
    assert first["apgr"] == second["apgr"]
    assert first["guarantee"] == second["guarantee"]
    assert first["baselines"]["category_prior"] != second["baselines"]["category_prior"]


def test_routing_needs_rows_to_test_on_and_something_to_gain(embedder: WordEmbedder) -> None:
    with pytest.raises(DataError, match="leave too few to test on; at least 500"):
        evaluate_routing(outcomes(450), embedder, labels=400, seeds=1, clock=ticking)
    rows = outcomes(600)
    with pytest.raises(DataError, match="are the columns swapped"):
        evaluate_routing(
            replace(rows, weak=rows.strong, strong=rows.weak), embedder, labels=400, seeds=1, clock=ticking
        )


def test_scope(embedder: WordEmbedder, tmp_path: Path) -> None:
    evaluation = evaluate_scope(
        labelled_texts(400), labelled_texts(200, 1), strange_texts(100), embedder, clock=ticking
    )
    report = evaluation.report
    assert {"auroc", "fpr95", "accuracy", "decision_us", "false_alarm"} <= set(report)
    assert report["auroc"] > 0.98
    assert report["fpr95"] < 0.1
    assert report["accuracy"] > 0.95
    assert report["false_alarm"] < 0.1
    assert report["artifact_bytes"] < 700 * 1024
    baselines = report["baselines"]
    assert baselines.keys() == {"random", "prompt_length", "complexity_heuristic", "knn", "oracle"}
    assert baselines["random"]["auroc"] == 0.5
    assert baselines["oracle"]["auroc"] == 1.0
    assert all(0.5 <= row["auroc"] <= 1.0 for row in baselines.values())
    for row in baselines.values():
        assert row["auroc_gained"].keys() == {"mean", "std"}
        assert row["auroc_gained"]["mean"] == pytest.approx(report["auroc"] - row["auroc"], abs=2e-4)
    assert baselines["prompt_length"]["auroc_gained"]["mean"] > 0.1
    assert 0.0 < baselines["prompt_length"]["auroc_gained"]["std"] < 0.1
    assert baselines["random"]["auroc_gained"]["std"] == baselines["oracle"]["auroc_gained"]["std"]
    assert plot_scope(evaluation, tmp_path)[0].read_bytes().startswith(b"\x89PNG")


def test_scope_baselines_take_the_better_way_round(embedder: WordEmbedder) -> None:
    known, inside, outside = labelled_texts(400), labelled_texts(200, 1), strange_texts(100)
    longer = replace(outside, texts=tuple(f"{text} {'so ' * 200}" for text in outside.texts))
    report = evaluate_scope(known, inside, longer, embedder, clock=ticking).report
    gained = report["baselines"]["prompt_length"]["auroc_gained"]
    assert report["baselines"]["prompt_length"]["auroc"] == 1.0
    assert gained["mean"] == pytest.approx(report["auroc"] - 1.0, abs=2e-4)


def test_drift(embedder: WordEmbedder, tmp_path: Path) -> None:
    report = evaluate_drift(
        labelled_texts(2_000),
        strange_texts(300),
        embedder,
        rates=(0.0, 0.2, 0.5),
        session_lengths=(1, 6),
        plan=DriftPlan(undrifted_requests=200_000, streams=50, horizon=1_000),
    )
    assert report["false_alarms_per_100000"].keys() == {"1", "6"}
    assert all(rate <= 2.0 for rate in report["false_alarms_per_100000"].values())
    assert [(row["rate"], row["session_length"]) for row in report["rows"]] == [
        (rate, length) for length in (1, 6) for rate in (0.0, 0.2, 0.5)
    ]
    delays = [row["delay"]["mean"] for row in report["rows"] if row["rate"] == 0.2]
    assert max(delays) < 150
    names = {"random", "prompt_length", "complexity_heuristic", "knn", "oracle"}
    usual = {
        row["name"]: row for row in report["baselines"] if (row["rate"], row["session_length"]) == (0.2, 1)
    }
    assert usual.keys() == names
    assert usual["random"]["delay"]["mean"] > 900
    assert 4 <= usual["oracle"]["delay"]["mean"] <= 6
    assert usual["oracle"]["gained"]["mean"] == pytest.approx(
        usual["oracle"]["delay"]["mean"] - delays[0], abs=0.2
    )
    assert usual["knn"]["delay"]["mean"] < usual["prompt_length"]["delay"]["mean"]
    assert usual["oracle"]["false_alarms_per_100000"] == 0.0
    assert usual["random"]["false_alarms_per_100000"] == 0.1
    assert plot_drift(report, tmp_path)[0].read_bytes().startswith(b"\x89PNG")


def test_drift_needs_enough_rows(embedder: WordEmbedder) -> None:
    with pytest.raises(DataError, match="too few to set the charts' limits"):
        evaluate_drift(labelled_texts(200), strange_texts(50), embedder, rates=(0.2,), session_lengths=(1,))


def test_category_prior_knows_nothing_of_new_categories() -> None:
    from hybridroute_lab.evaluation.baselines import Sample  # noqa: PLC0415 - used here alone

    vectors = np.eye(4, dtype=np.float32)
    known = Sample(("a", "b", "c", "d"), tuple(TOPICS), vectors, np.array([1.0, 0.0, 0.0, 0.0]))
    asked = Sample(("x", "y"), ("billing", "unheard of"), vectors[:2], np.zeros(2))
    first, other = BASELINES["category_prior"](known, asked, np.random.default_rng(0))
    assert first > 0.0
    assert other == 0.0
