"""The page of `benchmarks/drift_domains.py`: what it holds up to the bars, and what it writes."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.benchmark_modules import load_benchmark


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    return load_benchmark("drift_domains")


def report(campaign: ModuleType, *, alarms: float = 0.1, mean: float = 100.0, p95: float = 300.0) -> Any:
    return {
        "false_alarms_per_100000": {str(length): alarms for length in campaign.SESSION_LENGTHS},
        "requests": 1_000,
        "rows": [
            {
                "rate": rate,
                "session_length": length,
                "delay": {"mean": mean, "p95": p95},
                "missed": 0.0,
            }
            for length in campaign.SESSION_LENGTHS
            for rate in campaign.RATES
        ],
    }


def test_the_bars_are_the_mean_of_alarms_the_median_of_means_and_the_worst_p95(campaign: ModuleType) -> None:
    good = report(campaign)
    assert campaign.holds({"a": good, "b": good, "c": report(campaign, alarms=2.0, mean=400.0, p95=899.0)})
    assert not campaign.holds({"a": good, "b": report(campaign, alarms=2.0)})
    assert not campaign.holds(
        {"a": good, "b": report(campaign, mean=400.0), "c": report(campaign, mean=151.0)}
    )
    assert not campaign.holds({"a": good, "b": report(campaign, p95=901.0)})


def test_the_page_has_every_rate_and_domain(campaign: ModuleType, tmp_path: Path) -> None:
    campaign.write_page({"travel": report(campaign), "work": report(campaign)}, 1_000, tmp_path)
    page = (tmp_path / "drift_domains.md").read_text()
    assert page.count("| 5 % |") == 2
    assert "| travel | 0.100 | 100 | 300 | 0.100 | 100 | 300 |" in page
    assert (tmp_path / "drift_domains.png").read_bytes().startswith(b"\x89PNG")


def test_finished_domains_are_not_run_again(campaign: ModuleType, tmp_path: Path) -> None:
    store = tmp_path / "drift_domains.json"
    store.write_text(json.dumps({"travel": report(campaign)}))
    assert campaign.run_domains(tmp_path, ["travel"], 1_000, store) == {"travel": report(campaign)}
