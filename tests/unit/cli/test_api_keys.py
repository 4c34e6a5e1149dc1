"""Keys on the command line: a clients file that cannot be used is refused, and a key goes to the route alone."""

from pathlib import Path

import aiohttp
import pytest
import yaml
from aiohttp import web
from typer.testing import CliRunner

from hybridroute_cli.gateway import Gateway
from hybridroute_cli.main import app

EXAMPLE = Path(__file__).parents[3] / "examples" / "hybridroute.yaml"
KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        (None, "is not a file"),
        (f"- name: bot\n  keys: {KEY}", "line 2: keys must be a list of keys"),
        (f"- name: bot\n  {KEY}: 1\n  keys: [{KEY}]", "line 2: holds an unknown field"),
    ],
)
def test_a_clients_file_that_cannot_be_used_is_refused_before_anything_starts(
    tmp_path, monkeypatch, clients, message
):
    monkeypatch.setenv("HYBRIDROUTE_HOME", str(tmp_path / "home"))
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"]["auth"] = {"apiKeysFile": "clients.yaml"}
    (tmp_path / "route.yaml").write_text(yaml.safe_dump(document))
    if clients is not None:
        (tmp_path / "clients.yaml").write_text(clients)

    result = CliRunner().invoke(app, ["up", "-f", str(tmp_path / "route.yaml")], env={"COLUMNS": "300"})

    assert result.exit_code == 1
    assert "spec.auth.apiKeysFile" in result.stderr
    assert message in result.stderr
    assert KEY not in result.output + result.stderr


def test_keys_in_a_secret_alone_are_refused_on_one_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("HYBRIDROUTE_HOME", str(tmp_path / "home"))
    document = yaml.safe_load(EXAMPLE.read_text())
    document["spec"]["auth"] = {"apiKeysSecretName": "clients"}
    (tmp_path / "route.yaml").write_text(yaml.safe_dump(document))

    result = CliRunner().invoke(app, ["up", "-f", str(tmp_path / "route.yaml")], env={"COLUMNS": "300"})

    assert result.exit_code == 1
    assert (
        "spec.auth.apiKeysFile: is missing, and one machine reads keys from a file: name it" in result.stderr
    )


@pytest.mark.parametrize("key", ["", KEY])
async def test_a_key_is_sent_with_questions_only_and_the_internal_token_never_with_one(key):
    seen: dict[str, list[tuple[str | None, str | None]]] = {}

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers.get("authorization"), request.headers.get("x-hybridroute-internal-token")
        seen.setdefault(request.path, []).append(headers)
        return web.json_response({"choices": [{"text": "hi"}]})

    server = web.Application()
    server.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            gateway = Gateway(session, url, "internal", api_key=key)
            await gateway.ask("hello", model="hybridroute", max_tokens=None)
            await gateway.ask_keeper("/state")
    finally:
        await runner.cleanup()

    assert seen == {
        "/v1/chat/completions": [(f"Bearer {key}" if key else None, None)],
        "/keeper/state": [(None, "internal")],
    }
