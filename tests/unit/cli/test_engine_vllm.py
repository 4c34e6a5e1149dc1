"""A route with vLLM on one machine: what is refused before anything starts."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hybridroute_cli import documents
from hybridroute_cli.documents import check_engine, load_route
from hybridroute_cli.machine import MissingGpuError, refuse_missing_gpus
from hybridroute_cli.main import app
from hybridroute_serve.engines.vllm_arguments import ArgumentProblem
from support.routes import route_document
from support.rule_cases import vllm

PROBLEM = ArgumentProblem("gpu-memory-utilization", "invalid float value: 'much'")


def written(folder: Path, **fields: Any) -> Path:
    file = folder / "route.yaml"
    file.write_text(yaml.safe_dump(route_document(vllm(**fields)), sort_keys=False))
    return file


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": {"uri": "absent"}}, "spec.slm.model.uri: {folder}/absent is not a folder"),
        (
            {"model": {"uri": "hf://org/m"}, "adapters": {"cards": "absent"}},
            "spec.slm.adapters.cards: {folder}/absent is not a folder",
        ),
        ({"model": {"uri": "pvc://models/x"}}, "spec.slm.model.uri: only a cluster has claims"),
        (
            {"model": {"uri": "hf://org/m", "credentials": {"env": "NO_SUCH_TOKEN"}}},
            "spec.slm.model.credentials: no token for the model hub: set the variable NO_SUCH_TOKEN",
        ),
        (
            {"model": {"uri": "hf://org/m", "credentials": {"secretName": "hub"}}},
            "spec.slm.model.credentials: no token for the model hub: name a variable as env",
        ),
    ],
)
def test_what_one_machine_does_not_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("HYBRIDROUTE_HOME", str(tmp_path / "home"))
    file = written(tmp_path, **fields)
    result = CliRunner().invoke(app, ["up", "-f", str(file)], env={"COLUMNS": "400"})
    assert result.exit_code == 1
    assert message.format(folder=tmp_path) in result.stderr


def test_what_vllm_says_of_an_argument_has_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "check_arguments", lambda _: PROBLEM)
    file = written(tmp_path, engineArgs={"seed": "1", "gpu-memory-utilization": "much"})
    [problem] = check_engine(load_route(file), file)
    line = file.read_text().splitlines()[problem.line - 1]
    assert "gpu-memory-utilization" in line
    assert problem.path == 'spec.slm.engineArgs["gpu-memory-utilization"]'
    result = CliRunner().invoke(app, ["validate", str(file)], env={"COLUMNS": "400"})
    assert result.exit_code == 1
    assert "invalid float value: 'much'" in result.output
    assert "is valid" not in result.output


@pytest.mark.parametrize(("wanted", "there", "refused"), [(0, 0, False), (1, 1, False), (2, 1, True)])
def test_more_gpus_than_the_machine_has_are_refused(wanted: int, there: int, refused: bool) -> None:
    options = {"num_cpus": 1.0} | ({"num_gpus": wanted} if wanted else {})
    config = {"applications": [{"deployments": [{"name": "slm", "ray_actor_options": options}]}]}
    if not refused:
        refuse_missing_gpus(config, there=there)
        return
    with pytest.raises(MissingGpuError, match=r"spec\.slm\.resources\.gpus: a replica asks for 2, .* has 1"):
        refuse_missing_gpus(config, there=there)
