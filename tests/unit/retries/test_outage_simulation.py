"""The outage of issue and design in virtual time, with the code that serves: `benchmarks/retry_simulation.py`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parents[3] / "benchmarks" / "retry_simulation.py"
    spec = importlib.util.spec_from_file_location("retry_simulation", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("fleet", [(1, 1), (8, 8), (1, 8)], ids=str)
def test_full_outage_at_100_requests_a_second(simulation: ModuleType, fleet: tuple[int, int]) -> None:
    counts = simulation.simulate(100, 60, fleet, failover=False, breaker=False, seed=1)
    assert counts.attempts <= 1.05 * counts.requests
    assert counts.attempts > counts.requests
    assert counts.attempts_after <= 1.2 * counts.arrivals_after


@pytest.mark.parametrize("rate", [1, 10, 35])
@pytest.mark.parametrize("outage_seconds", [10, 60])
def test_full_outage_stays_below_the_bound(simulation: ModuleType, rate: int, outage_seconds: int) -> None:
    counts = simulation.simulate(rate, outage_seconds, (4, 4), failover=False, breaker=False, seed=2)
    assert counts.attempts <= counts.requests + 100 + outage_seconds


@pytest.mark.parametrize("rate", [1, 35])
def test_primary_down_and_secondary_up_is_no_client_error(simulation: ModuleType, rate: int) -> None:
    counts = simulation.simulate(rate, 60, (4, 4), failover=True, breaker=True, seed=3)
    assert counts.requests > 0
    assert counts.errors == 0
