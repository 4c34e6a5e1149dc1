"""`hybridroute audit export`."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hybridroute_api.records import AuditResult
from hybridroute_api.vocabulary import Gate, Outcome, PathName
from hybridroute_cli.commands import audit
from hybridroute_cli.commands.audit import COLUMNS
from hybridroute_cli.main import app
from hybridroute_serve.keeper.documents import show_audits
from support.reports import a_record


def audits() -> list[dict[str, Any]]:
    """Three audits: one of a request whose prompt was kept, one without, one whose request is forgotten."""
    requests = [a_record("r1", prompt_text="freeze, my card"), a_record("r2"), None]
    copies = [
        a_record(
            f"r{number}.audit", gate=Gate.AUDIT, path=PathName.LLM, audit=AuditResult(f"r{number}", 0.05, 0.5)
        )
        for number in (1, 2)
    ]
    unpaid = AuditResult("r3", 0.05)
    copies.append(
        a_record("r3.audit", gate=Gate.AUDIT, path=PathName.LLM, outcome=Outcome.UNAFFORDABLE, audit=unpaid)
    )
    document: list[dict[str, Any]] = show_audits(zip(copies, requests, strict=True))["audits"]
    return document


@pytest.fixture(autouse=True)
def keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(_: str | None, limit: int) -> list[dict[str, Any]]:
        return audits()[:limit]

    monkeypatch.setattr(audit, "_ask", ask)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["audit", "export", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_csv_to_be_labelled(tmp_path: Path) -> None:
    out = run("-o", str(tmp_path / "audits.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "audits.csv").read_text())))

    assert tuple(rows[0]) == COLUMNS
    assert [row["request_id"] for row in rows] == ["r1", "r2", "r3"]
    assert [row["prompt"] for row in rows] == ["freeze, my card", "", ""]
    assert [row["disagreement"] for row in rows] == ["0.5", "0.5", ""]
    assert [row["served_by"] for row in rows] == ["slm", "slm", ""]
    assert "3 audited requests" in out
    assert "2 without a prompt" in out


def test_standard_output_and_json() -> None:
    assert [row["request_id"] for row in csv.DictReader(io.StringIO(run("--limit", "1")))] == ["r1"]
    assert json.loads(run("--json"))["audits"] == json.loads(json.dumps(audits()))
