"""`hybridroute calibrate`, `certify` and `evaluate` as programs are called: files in, files and exit codes out."""

import csv
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from hybridroute_cli.commands.calibrate import calibrate, certify
from hybridroute_cli.commands.evaluate import evaluate
from hybridroute_lab import calibrate as calibrating
from hybridroute_serve.routing import encoder
from hybridroute_serve.routing.artifact.validity import digest_prompt
from support.lab_rows import labelled_texts, outcomes, strange_texts
from support.one_thread import one_thread
from support.routes import ROUTE_YAML

__all__ = ["one_thread"]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    app.command()(calibrate)
    app.command()(certify)
    app.add_typer(evaluate)
    return app


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path: Path, header: list[str], *columns: object) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))  # type: ignore[call-overload]
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = outcomes(300)
    return write(
        tmp_path / "data.csv",
        ["prompt", "small", "large", "topic"],
        rows.prompts,
        rows.weak,
        rows.strong,
        rows.labels,
    )


OUTCOMES = ("--weak-column", "small", "--strong-column", "large")


def test_calibrate_writes_an_artifact_and_says_what_it_promises(
    app: typer.Typer, data: Path, tmp_path: Path
) -> None:
    made = tmp_path / "policy.hra"
    result = run(
        app,
        "calibrate",
        "--data",
        data,
        "-o",
        made,
        *OUTCOMES,
        "--label-column",
        "topic",
        "--model",
        "slm=abc",
    )
    assert result.exit_code == 0, result.stderr
    assert "150 rows learned from, 150 certified with" in result.stdout
    assert "maxRisk" in result.stdout
    header = json.loads(made.read_bytes().partition(b"\n")[0])
    assert header["models"] == {"slm": "abc"}
    assert header["labels"] == ["billing", "cooking", "devices", "travel"]
    assert header["drift"]["limits"].keys() == {"scope", "confidence_low", "confidence_high", "clusters"}

    fresh = outcomes(200, seed=4)
    more = write(tmp_path / "more.csv", ["prompt", "small", "large"], fresh.prompts, fresh.weak, fresh.strong)
    again = run(app, "certify", made, "--labels", more, *OUTCOMES, "-o", made, "--json")
    assert again.exit_code == 0, again.stderr
    renewed = json.loads(again.stdout)
    assert renewed["promise"]["rows"] == 200
    assert renewed["models"] == {"slm": "abc"}
    assert renewed["sha256"] != header["sha256"]


def test_rows_that_were_not_used_are_counted(
    app: typer.Typer, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "MAX_CERTIFY_ROWS", 100)
    made = tmp_path / "policy.hra"
    result = run(app, "calibrate", "--data", data, "-o", made, *OUTCOMES)
    assert "50 of 300 rows, drawn at random, were not used" in " ".join(result.stdout.split())
    again = run(app, "certify", made, "--labels", data, "-o", made, *OUTCOMES)
    assert "200 of 300 rows, drawn at random, were not used" in " ".join(again.stdout.split())


def test_a_label_column_alone_makes_a_scope_gate(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    made = tmp_path / "gate.hra"
    result = run(app, "calibrate", "--data", data, "-o", made, "--label-column", "topic")
    assert result.exit_code == 0, result.stderr
    assert "no promise: in-domain labels alone carry no promise" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weak-column", "small"], "belong together"),
        ([], "give --weak-column and --strong-column for a promise"),
        ([*OUTCOMES[:2], "--strong-column", "huge"], "no column 'huge'"),
        ([*OUTCOMES, "--model", "slm"], "--model takes NAME=DIGEST, not 'slm'"),
        ([*OUTCOMES[:2], "--strong-column", "small"], "differ by the same amount in every row"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(
    app: typer.Typer, data: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    made = tmp_path / "policy.hra"
    result = run(app, "calibrate", "--data", data, "-o", made, *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not made.exists()


@pytest.mark.parametrize("command", ["calibrate", "routing"])
def test_an_embedding_that_is_not_installed_says_what_to_install(
    app: typer.Typer, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(encoder, "find_spec", lambda _: None)
    output = tmp_path / "support.artifact"
    words = ("calibrate", "-o", output) if command == "calibrate" else ("evaluate", "routing")
    done = run(app, *words, "--data", data, *OUTCOMES, "--embedding", "minilm")
    assert done.exit_code == 1
    told = " ".join(done.output.split())
    assert "onnxruntime, tokenizers not installed: pip install 'hybridroute[encoder]' and then" in told
    assert not output.exists()


def test_certify_refuses_what_is_no_artifact(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.hra"
    other.write_text("{}")
    result = run(app, "certify", other, "--labels", data, *OUTCOMES, "-o", tmp_path / "new.hra")
    assert result.exit_code == 1
    assert "not a routing artifact" in result.stderr
    missing = run(app, "certify", tmp_path / "none", "--labels", data, *OUTCOMES, "-o", tmp_path / "new.hra")
    assert "No such file" in missing.stderr


def test_the_route_and_the_system_prompt_say_what_the_outcomes_were_made_with(
    app: typer.Typer, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "route.yaml").write_text(ROUTE_YAML)
    (tmp_path / "system.txt").write_text("Be brief.\n")
    made = tmp_path / "policy.hra"
    with_what = ("--route", tmp_path / "route.yaml", "--system-prompt", tmp_path / "system.txt")
    result = run(app, "calibrate", "--data", data, *OUTCOMES, "-o", made, *with_what, "--json")
    assert result.exit_code == 0, result.stderr
    models = json.loads(result.stdout)["models"]
    assert (models["slm"], models["llm"]) == ("smollm2-135m", "big")
    assert models["slm_weights"].startswith("sha256:")
    assert models["system_prompt"] == digest_prompt("Be brief.")
    (tmp_path / "other.yaml").write_text(ROUTE_YAML.replace("model: big", "model: bigger"))
    renewed = ("certify", made, "--labels", data, *OUTCOMES, "-o", made, "--route", tmp_path / "other.yaml")
    result = run(app, *renewed, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["models"] == models | {"llm": "bigger"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--route", "none.yaml"), "does not exist"),
        (("--system-prompt", "none.txt"), "No such file"),
    ],
)
def test_what_cannot_be_read_of_the_route_is_told(
    app: typer.Typer, data: Path, tmp_path: Path, options: tuple[str, str], told: str
) -> None:
    result = run(
        app, "calibrate", "--data", data, *OUTCOMES, "-o", tmp_path / "a", options[0], tmp_path / options[1]
    )
    assert result.exit_code == 1
    assert told in result.stderr


def test_evaluate_routing_prints_json_and_draws(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    arguments = ("evaluate", "routing", "--data", data, *OUTCOMES, "--labels", 150, "--seeds", 1)
    result = run(app, *arguments, "--json", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["apgr"]["mean"] > 0.5
    assert (tmp_path / "plots" / "cost_quality.png").is_file()
    plain = run(app, *arguments)
    assert "apgr: " in plain.stdout
    assert "guarantee: alpha 0.02" in plain.stdout


def test_evaluate_scope_and_drift(app: typer.Typer, tmp_path: Path) -> None:
    train, known, strange = labelled_texts(1_200), labelled_texts(100, 1), strange_texts(60)
    files = [
        write(tmp_path / f"{name}.csv", ["text", "label"], rows.texts, rows.labels)
        for name, rows in (("train", train), ("in", known), ("out", strange))
    ]
    arguments = ("evaluate", "scope", "--train", files[0], "--in", files[1], "--out", files[2])
    scope = run(app, *arguments, "--json")
    assert scope.exit_code == 0, scope.stderr
    report = json.loads(scope.stdout)
    assert report["auroc"] > 0.95
    length = report["baselines"]["prompt_length"]
    gained = f"{length['auroc_gained']['mean']:g} ± {length['auroc_gained']['std']:g}"
    printed = " ".join(run(app, *arguments).stdout.split())
    assert f"baselines, prompt_length: auroc {length['auroc']:g}, auroc_gained {gained}" in printed
    drift = ("evaluate", "drift", "--base", files[0], "--shift", files[2], "--requests", 20_000)
    result = run(app, *drift, "--rates", "0,0.5", "--session-length", "6", "--json")
    assert result.exit_code == 0, result.stderr
    assert [row["rate"] for row in json.loads(result.stdout)["rows"]] == [0.0, 0.5]
    wrong = run(app, *drift, "--rates", "a few")
    assert wrong.exit_code == 1
    assert "numbers separated by commas" in wrong.stderr
    assert "lie between 0 and 1" in run(app, *drift, "--rates", "2").stderr


def test_a_margin_column_calibrates_a_cascade(app: typer.Typer, tmp_path: Path) -> None:
    rows = outcomes(300)
    margins = [f"{0.4 + 0.4 * weak:.3f}" if number % 7 else "" for number, weak in enumerate(rows.weak)]
    header = ["prompt", "small", "large", "sure"]
    data = write(tmp_path / "data.csv", header, rows.prompts, rows.weak, rows.strong, margins)
    made = tmp_path / "policy.hra"
    with_margins = ("--margin-column", "sure", "--margin-tokens", 8)
    result = run(app, "calibrate", "--data", data, "-o", made, *OUTCOMES, *with_margins)
    assert result.exit_code == 0, result.stderr
    assert "cascade of 8 tokens, chosen on 150 rows, counted on 150 others" in result.stdout
    table = json.loads(made.read_bytes().partition(b"\n")[0])["margins"]
    assert (table["tokens"], table["rows"], table["certify"]) == (8, 150, 150)


@pytest.mark.parametrize("margin", ["1.2", "-0.1", "sure", "nan"])
def test_a_margin_that_is_none_names_its_row(app: typer.Typer, tmp_path: Path, margin: str) -> None:
    rows = outcomes(60)
    margins = ["0.5"] * 59 + [margin]
    header = ["prompt", "small", "large", "sure"]
    data = write(tmp_path / "data.csv", header, rows.prompts, rows.weak, rows.strong, margins)
    made = tmp_path / "policy.hra"
    result = run(app, "calibrate", "--data", data, "-o", made, *OUTCOMES, "--margin-column", "sure")
    assert result.exit_code == 1
    assert f"row 60: column 'sure' is {margin!r}; a margin is a number 0 to 1" in " ".join(
        result.stderr.split()
    )


def test_a_margin_needs_outcomes(app: typer.Typer, data: Path, tmp_path: Path) -> None:
    result = run(
        app,
        "calibrate",
        "--data",
        data,
        "-o",
        tmp_path / "p",
        "--label-column",
        "topic",
        "--margin-column",
        "x",
    )
    assert result.exit_code == 1
    assert "--margin-column needs --weak-column and --strong-column" in " ".join(result.stderr.split())
