"""`hybridroute up` refuses a calibrated policy that cannot decide, before anything is started or changed."""

from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from hybridroute_cli.commands.up import up
from support.artifacts import certified
from support.one_thread import one_thread
from support.routes import route_document

__all__ = ["one_thread"]

CASES: list[tuple[str, dict[str, Any], bytes | None, str]] = [
    (
        "in a ConfigMap alone",
        {"configMapName": "support-policy"},
        None,
        "one machine reads policies from files",
    ),
    ("no file", {"file": "support.artifact"}, None, "support.artifact is not a file"),
    ("no artifact", {"file": "support.artifact"}, b"prompt,small,large\n", "not a routing artifact"),
    ("damaged", {"file": "support.artifact"}, certified()[:-1], "the artifact is damaged"),
    ("of another embedding", {"file": "support.artifact"}, certified(), "made with embedding words"),
]


@pytest.mark.parametrize(("policy", "data", "told"), [case[1:] for case in CASES], ids=[c[0] for c in CASES])
def test_a_policy_that_cannot_decide_is_refused(
    policy: dict[str, Any],
    data: bytes | None,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HYBRIDROUTE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "500")
    file = tmp_path / "route.yaml"
    file.write_text(yaml.safe_dump(route_document({"spec": {"routing": {"policy": policy}}})))
    if data is not None:
        (tmp_path / "support.artifact").write_bytes(data)
    app = typer.Typer()
    app.command()(up)
    result = CliRunner().invoke(app, ["-f", str(file), "--detach"])
    assert result.exit_code == 1
    assert "spec.routing.policy.file: " in result.stderr
    assert told in result.stderr
    assert not (tmp_path / "home").exists()
