"""`hybridroute report`: the table, the curve's picture, and what there is to say without a curve."""

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from hybridroute_cli.commands import report as command
from hybridroute_cli.commands.report import report

POINTS = [
    {
        "max_risk": risk,
        "threshold": None if risk < 0.02 else 1.0 - risk,
        "kept_share": share,
        "regret": share / 20,
        "regret_at_most": share / 15,
        "llm_usd": None,
    }
    for risk, share in ((0.01, 0.0), (0.02, 0.2), (0.05, 0.5))
]
TODAY = {**POINTS[1], "kept_share": 0.3, "llm_usd": "0.0123"}
CURVE = {
    "artifact": "a" * 64,
    "requests": 40,
    "not_scored": 2,
    "delta": 0.1,
    "today": TODAY,
    "points": POINTS,
}


def run(monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], *arguments: object) -> Result:
    async def answer(route: str | None, limit: int) -> dict[str, Any]:
        return document

    monkeypatch.setattr(command, "_ask", answer)
    app = typer.Typer()
    app.command()(report)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("today", [TODAY, {**TODAY, "regret": None, "llm_usd": None}])
def test_the_curve_is_printed_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, today: dict[str, Any]
) -> None:
    result = run(monkeypatch, {**CURVE, "today": today}, "--plot", tmp_path / "curve.png")
    assert result.exit_code == 0, result.stderr
    assert "policy aaaaaaaaaaaa: 40 requests that it scored, 2 others left out" in result.stdout
    assert "keeps nothing" in result.stdout
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_curve_there_is_no_picture(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nothing = {**CURVE, "note": "labels alone carry no promise", "today": None, "points": []}
    plain = run(monkeypatch, nothing)
    assert "no curve: labels alone carry no promise" in plain.stdout
    drawn = run(monkeypatch, nothing, "--plot", tmp_path / "curve.png")
    assert drawn.exit_code == 1
    assert "no curve to draw: labels alone carry no promise" in drawn.stderr
    assert not (tmp_path / "curve.png").exists()


def test_a_picture_that_cannot_be_written_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = run(monkeypatch, CURVE, "--plot", tmp_path / "nowhere" / "curve.png")
    assert result.exit_code == 1
    assert "curve.png: No such file or directory" in result.stderr
