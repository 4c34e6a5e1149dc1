"""What commands say of routes of this machine that are down, do not answer, or never were."""

import json
import time
from pathlib import Path

import pytest
from aiohttp import web
from typer.testing import CliRunner

from hybridroute_api.records import Batch
from hybridroute_cli.gateway import API_KEY_VARIABLE, Answer, Gateway
from hybridroute_cli.main import app
from hybridroute_cli.processes import pick_free_ports
from hybridroute_cli.rundir import Phase, Run, RunDirectory
from hybridroute_render.placement import ServePorts
from hybridroute_serve.keeper.store import Store
from support.policies import a_policy
from support.reports import a_record, an_attempt


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HYBRIDROUTE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.stdout, result.stderr


def leave_records(home: Path, route: str, request_id: str) -> None:
    directory = RunDirectory(home, route)
    directory.prepare()
    store = Store(directory.records_file, route, time.time)
    batch = Batch(records=[a_record(request_id)], attempts=[an_attempt(request_id)], replica="router-1")
    store.apply_batches([batch], a_policy())
    store.close()


def start(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Describe a route as up at a port where nothing listens."""
    (port,) = pick_free_ports((18100,))
    directory = RunDirectory(home, "support")
    directory.prepare()
    ports = ServePorts(http=port, haproxy_metrics=1, haproxy_stats=2, fallback_proxy=3)
    directory.write_run(
        Run("x", "support", f"http://127.0.0.1:{port}", ports, 1, 0.0, "/nowhere", stand_in=False)
    )
    directory.write_phase(Phase("serving", applications={"router": "RUNNING"}))
    monkeypatch.setattr("hybridroute_cli.commands.status.is_alive", lambda _: True)


def test_records_of_a_route_that_is_down_are_read_without_it(home: Path) -> None:
    leave_records(home, "support", "hr-1")
    status, out, _ = run("costs", "--json")
    assert status == 0
    assert json.loads(out)["requests"] == 1
    assert "route support is not up" in run("costs")[1]
    status, out, _ = run("explain", "hr-1")
    assert (status, "gate " in out) == (0, True)
    assert "no record of hr-2" in run("explain", "hr-2")[2]


def test_of_several_routes_that_are_down_one_is_to_be_named(home: Path) -> None:
    leave_records(home, "one", "hr-1")
    leave_records(home, "other", "hr-2")
    status, _, errors = run("costs")
    assert status == 1
    assert "several left records: one, other; choose one with --route" in errors
    assert run("explain", "hr-2", "--route", "other")[0] == 0


def test_a_store_that_cannot_be_read_is_named(home: Path) -> None:
    leave_records(home, "support", "hr-1")
    file = RunDirectory(home, "support").records_file
    file.write_bytes(b"no database" * 1000)
    status, _, errors = run("costs")
    assert status == 1
    assert f"{file} cannot be read" in errors


def test_nothing_up_and_nothing_left(home: Path) -> None:
    status, _, errors = run("costs")
    assert (status, "no route is up; start one with" in errors) == (1, True)
    assert home.is_dir()


def test_down_of_a_name_that_never_was_is_an_error(home: Path) -> None:
    leave_records(home, "support", "hr-1")
    status, _, errors = run("down", "--route", "suport")
    assert status == 1
    assert "no route suport was ever up here" in errors
    status, out, _ = run("down", "--route", "support")
    assert (status, "nothing to stop" in out) == (0, True)


def test_a_port_that_refuses_is_told_with_the_log_to_read(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(home, monkeypatch)
    status, out, _ = run("status")
    assert status == 1
    assert "does not answer (ClientConnectorError)" in out
    assert "supervisor.log" in out
    assert "see `hybridroute status`" not in out


def test_a_question_without_a_key_names_the_variable(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(home, monkeypatch)
    refusal = {"error": {"message": "You did not provide an API key.", "code": "api_key_missing"}}

    async def refuse(*_: object, **__: object) -> Answer:
        return Answer(web.HTTPUnauthorized.status_code, {}, refusal)

    monkeypatch.setattr(Gateway, "ask", refuse)
    status, out, _ = run("ask", "hello")
    assert status == 1
    assert API_KEY_VARIABLE in out
