"""`hybridroute validate` as a program is called: its output and its exit code."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from hybridroute_cli.commands.validate import print_problems, validate
from hybridroute_cli.problems import Problem
from support.routes import ROUTE_YAML


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(validate)
    return app


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(ROUTE_YAML)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(ROUTE_YAML.replace("slm:", "slm:\n    scaling: {minReplicas: 0}"))
    return path


def test_valid_file_is_named_with_its_route(app: typer.Typer, good: Path) -> None:
    result = CliRunner().invoke(app, [str(good)])
    assert result.exit_code == 0
    assert result.stdout == f"{good}: HybridRoute support is valid\n"


def test_problem_shows_place_field_remedy_and_meaning(app: typer.Typer, good: Path, bad: Path) -> None:
    result = CliRunner().invoke(app, [str(good), str(bad)])
    assert result.exit_code == 1
    first, problem, hint, summary = result.stdout.splitlines()
    assert first == f"{good}: HybridRoute support is valid"
    assert problem == (
        f"{bad}:7:15: spec.slm.scaling.minReplicas is out of range: use at least 1 and at most 1000"
    )
    assert hint.startswith("    Replicas that always run. Range 1 to 1000; default 1")
    assert summary == f"1 problem in {bad}"


def test_json_holds_the_same_for_programs(app: typer.Typer, good: Path, bad: Path) -> None:
    result = CliRunner().invoke(app, ["--json", str(good), str(bad)])
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["valid"] is False
    assert document["files"][0] == {"file": str(good), "valid": True, "route": "support", "problems": []}
    [problem] = document["files"][1]["problems"]
    assert (problem["line"], problem["column"], problem["path"]) == (7, 15, "spec.slm.scaling.minReplicas")


def test_json_of_valid_files_exits_with_zero(app: typer.Typer, good: Path) -> None:
    result = CliRunner().invoke(app, ["--json", str(good)])
    assert result.exit_code == 0
    assert json.loads(result.stdout)["valid"] is True


def test_square_brackets_in_paths_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_problems([Problem("a[b].yaml", 1, 2, "spec.llm.upstreams[0]", "is [bold]wrong[/]: mend it")])
    assert capsys.readouterr().out.splitlines() == [
        "a[b].yaml:1:2: spec.llm.upstreams[0] is [bold]wrong[/]: mend it",
        "1 problem in a[b].yaml",
    ]


def test_problems_of_a_command_that_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_problems([Problem("a.yaml", 1, 2, "spec", "is wrong: mend it")], as_json=True)
    [file] = json.loads(capsys.readouterr().out)["files"]
    assert file["route"] is None
    assert file["problems"][0]["message"] == "is wrong: mend it"
