"""How a route's further arguments become vLLM's command line; vLLM's own parser is asked where it is installed."""

import argparse

import pytest

from hybridroute_serve.engines import vllm_arguments
from hybridroute_serve.engines.vllm_arguments import ArgumentProblem, argument_words, check_arguments


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--enforce-eager", action=argparse.BooleanOptionalAction)
    parser.add_argument("--gpu-memory-utilization", type=float)
    parser.add_argument("--middleware", nargs="*")
    return parser


def test_flags_values_and_lists(parser: argparse.ArgumentParser) -> None:
    assert argument_words(parser, "enforce-eager", "true") == ["--enforce-eager"]
    assert argument_words(parser, "enforce-eager", "false") == ["--no-enforce-eager"]
    assert argument_words(parser, "gpu-memory-utilization", "0.85") == ["--gpu-memory-utilization=0.85"]
    assert argument_words(parser, "middleware", "a.b c.d") == ["--middleware", "a.b", "c.d"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("enforce-eager", "yes", 'is a flag: write "true" or "false"'),
        ("gpu-memory-utilisation", "1", "is no argument of vllm serve; is gpu-memory-utilization meant?"),
        ("gpu-mem", "1", "is no argument of vllm serve"),
    ],
)
def test_what_is_wrong_is_said_of_the_argument(
    parser: argparse.ArgumentParser, name: str, value: str, message: str
) -> None:
    with pytest.raises(ArgumentProblem) as caught:
        argument_words(parser, name, value)
    assert caught.value.name == name
    assert caught.value.message.startswith(message)


def test_nothing_is_checked_without_arguments_or_without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm_arguments, "is_installed", lambda: False)
    assert check_arguments({"no-such": "x"}) is None
    monkeypatch.setattr(vllm_arguments, "is_installed", lambda: True)
    assert check_arguments({}) is None


def test_a_vllm_that_does_not_start_is_a_problem_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    # Here the module is run where vLLM cannot be imported.
    if vllm_arguments.is_installed():
        pytest.skip("vLLM is installed")
    monkeypatch.setattr(vllm_arguments, "is_installed", lambda: True)
    problem = check_arguments({"seed": "1"})
    assert problem is not None
    assert problem.name == ""
    assert "vLLM does not start: ModuleNotFoundError" in problem.message
