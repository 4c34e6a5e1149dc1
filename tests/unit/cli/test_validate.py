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
    assert document["files"][0] == {
        "file": str(good),
        "valid": True,
        "route": "support",
        "problems": [],
        "one_machine": [],
    }
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


def test_what_one_machine_will_refuse_is_noted(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(ROUTE_YAML.replace("spec:", "spec:\n  auth: {apiKeysSecretName: clients}", 1))
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 0
    assert "is valid" in result.stdout
    assert "but `up` on one machine will refuse it: spec.auth.apiKeysFile: is missing" in result.stdout
    [file] = json.loads(CliRunner().invoke(app, ["--json", str(path)]).stdout)["files"]
    assert len(file["one_machine"]) == 1


@pytest.mark.parametrize(
    ("zone", "advice"),
    [("Europe/Berlni", "did you mean Europe/Berlin?"), ("Mars/Olympus", "there is no such time zone")],
)
def test_a_mistyped_time_zone_is_suggested(app: typer.Typer, tmp_path: Path, zone: str, advice: str) -> None:
    path = tmp_path / "zone.yaml"
    budget = f'spec:\n  budget: {{limitUSD: "1", window: "1d@{zone}"}}'
    path.write_text(ROUTE_YAML.replace("spec:", budget, 1))
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 1
    assert "spec.budget.window" in result.stdout
    assert advice in result.stdout


def test_a_name_in_the_file_does_not_steer_the_terminal(app: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "escape.yaml"
    path.write_text(ROUTE_YAML.replace("spec:", 'spec:\n  "a\\r\\n\\e[31mred": 1', 1))
    result = CliRunner().invoke(app, [str(path)])
    assert result.exit_code == 1
    assert "\\r\\n\\x1b[31mred" in result.stdout
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout
