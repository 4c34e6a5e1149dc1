"""Threads are chosen by what the process may use, not by what the machine has."""

from pathlib import Path

import pytest

from hybridroute_serve.engines.cpus import Threads, choose_threads, usable_cpus


@pytest.mark.parametrize(
    ("cpus", "generation", "prompts"),
    [(0.5, 1, 1), (1.0, 1, 1), (2.0, 1, 2), (2.5, 1, 2), (3.0, 2, 3), (16.0, 15, 16)],
)
def test_generation_leaves_a_core_to_the_rest(cpus: float, generation: int, prompts: int) -> None:
    assert choose_threads(cpus) == Threads(generation, prompts)


def test_a_containers_quota_counts(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("50000 100000\n")
    assert usable_cpus(quota) == 0.5


@pytest.mark.parametrize("content", ["max 100000\n", "", "9999999999 100000\n", "what is this\n"])
def test_without_a_quota_the_affinity_counts(tmp_path: Path, content: str) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text(content)
    assert usable_cpus(quota) == usable_cpus(tmp_path / "absent") >= 1
