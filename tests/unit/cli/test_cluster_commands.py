"""Commands against a cluster: found by kubectl, asked over a forwarded port, and plain when something is missing."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer import Typer
from typer.testing import CliRunner

from hybridroute_cli.main import app as machine_app
from hybridroute_cli.plugin import app as plugin_app
from support.kubectl_program import install_kubectl, kubectl_calls
from support.routes import route_document

ROUTES, SERVICES = "hybridroutes.hybridroute.dev", "rayservices.ray.io"
COSTS = {
    "paths": {
        "slm": {
            "requests": 83,
            "prompt_tokens": 900,
            "completion_tokens": 400,
            "usd": "0.01",
            "idle_usd": "0.02",
        },
        "llm": {"requests": 17, "prompt_tokens": 300, "completion_tokens": 200, "usd": "0.35"},
    },
    "all_llm_usd": "1.9",
    "saved_usd": "1.52",
}
STATE = {
    "budget": None,
    "replicas": {},
    "live": {"error": "of another version"},
    "policy": {
        "digest": "0123456789abcdef",
        "created": "2025-01-02",
        "threshold": 0.75,
        "why": "confidence.threshold",
        "margin": {"threshold": 0.41234, "why": "escalates at most 10 %"},
    },
    "guarantee": {"status": "Unknown", "reason": "ThresholdByHand", "message": ""},
    "drift": {"alarm": {"charts": ["scope"]}, "evidence": {"scope": 1.5}, "requests": 400},
}
EXPLANATION = "r-1 went to the SLM: confidence 0.93 is above 0.8"


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


STATUS = {
    "observedGeneration": 2,
    "url": "http://support-gateway-serve-svc.shop.svc:8000/v1",
    "conditions": [
        condition("Ready", "True", "LLMCarries"),
        condition("SLMReady", "False", "Unschedulable", "pod support-slm-x waits for a node: no GPU"),
    ],
    "paths": {"router": {"readyReplicas": 2}, "slm": {"readyReplicas": 0}, "llm": {"readyReplicas": 1}},
    "cost": {"slmUSD": "0.01", "llmUSD": "0.35", "savedUSD": "1.52"},
}


def route(name: str = "support", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "generation": 2}
    return route_document({"metadata": metadata}) | {"status": STATUS} | more


def secret(name: str = "support") -> dict[str, Any]:
    token = base64.b64encode(b"internal").decode()
    return {"metadata": {"name": f"{name}-internal"}, "data": {"token": token}}


def leaving(name: str) -> dict[str, Any]:
    metadata = {
        "name": f"{name}-slm",
        "labels": {"hybridroute.dev/route": name},
        "deletionTimestamp": "2026-11-24T00:00:00Z",
        "finalizers": ["ray.io/rayservice-finalizer"],
    }
    return {"kind": "RayService", "metadata": metadata}


@pytest.fixture
async def gateway() -> AsyncIterator[int]:
    """The port of a gateway that wants the internal token for what is the keeper's."""

    async def keeper(request: web.Request) -> web.Response:
        if request.headers.get("x-hybridroute-internal-token") != "internal":
            return web.json_response({}, status=403)
        answers = {
            "/keeper/costs": COSTS,
            "/keeper/state": STATE,
            "/keeper/records/r-1": {"explanation": EXPLANATION},
        }
        known = request.path in answers
        return web.json_response(answers.get(request.path), status=200 if known else 404)

    async def answer(request: web.Request) -> web.Response:
        assert "x-hybridroute-internal-token" not in request.headers
        message = {"message": {"content": f"heard by {request.headers.get('authorization', 'nobody')}"}}
        return web.json_response({"choices": [message]}, headers={"x-hybridroute-path": "slm"})

    server = web.Application()
    server.router.add_get("/keeper/{path:.*}", keeper)
    server.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


class Shell:
    """Runs commands with a kubectl of the test's own on PATH."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self._monkeypatch = monkeypatch
        monkeypatch.setenv("HYBRIDROUTE_HOME", str(directory / "home"))

    def install(self, objects: dict[str, list[dict[str, Any]]], port: int | None = None) -> None:
        """Put kubectl on PATH, alone."""
        known: dict[str, list[dict[str, Any]]] = {ROUTES: [], SERVICES: [], "secret": []}
        self._monkeypatch.setenv("PATH", str(install_kubectl(self.directory, known | objects, port)))

    async def run(self, *arguments: str, app: Typer = plugin_app) -> tuple[int, str]:
        """Return exit status and everything printed, words single-spaced."""
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments, env={"COLUMNS": "300"})
        return result.exit_code, " ".join((result.stdout + result.stderr).split())


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    return Shell(tmp_path, monkeypatch)


async def test_status_says_what_object_and_keeper_say(shell: Shell, gateway: int) -> None:
    shell.install({ROUTES: [route()], "secret": [secret()], SERVICES: [leaving("support")]}, gateway)
    code, told = await shell.run("status")
    assert code == 0
    assert "route shop/support at http://support-gateway-serve-svc.shop.svc:8000/v1: ready" in told
    assert "SLMReady │ False │ Unschedulable │ pod support-slm-x waits for a node: no GPU" in told
    assert "replicas: llm 1, router 2, slm 0" in told
    assert "slm USD 0.01, llm USD 0.35; saved USD 1.52" in told
    assert "the live policy is not in force, the last good one is: of another version" in told
    assert "waits for ray.io/rayservice-finalizer, which KubeRay takes away when it runs" in told
    assert "policy 0123456789ab of 2025-01-02: threshold 0.7500; confidence.threshold" in told
    assert "cascade: threshold 0.4123, escalates at most 10 %" in told
    assert "drift: an alarm is in force; scope 1.50 of the limit after 400 requests" in told


async def test_status_of_a_route_whose_pods_do_not_run_yet(shell: Shell) -> None:
    shell.install({ROUTES: [route(status={})], "secret": [secret()]})
    assert await shell.run("status") == (
        1,
        "route shop/support at no address yet: not ready the operator has not yet seen the last change of the object"
        " nobody has looked at this route: is the operator running?",
    )
    shell.install({ROUTES: [route()], "secret": [secret()]})
    code, told = await shell.run("status", "--json")
    assert code == 0
    assert json.loads(told)["detail"] == (
        "the keeper was not asked: kubectl port-forward service/support-gateway-serve-svc:"
        " error: unable to forward port because pod is not running. Current status=Pending"
    )


async def test_costs_and_explain_come_from_the_keeper(shell: Shell, gateway: int) -> None:
    shell.install({ROUTES: [route()], "secret": [secret()]}, gateway)
    code, told = await shell.run("costs")
    assert code == 0
    assert "slm │ 83 │ 900 │ 400 │ 0.01 │ 0.02" in told
    assert "the LLM alone would have cost USD 1.9; saved USD 1.52" in told
    assert await shell.run("explain", "r-1") == (0, EXPLANATION)
    assert await shell.run("explain", "r-2") == (
        1,
        "error: no record of r-2: it may be mistyped, older than spec.records.maxAge, or of another route",
    )


async def test_a_question_needs_no_right_to_read_secrets(
    shell: Shell, gateway: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRIDROUTE_API_KEY", "sk-client")
    shell.install({ROUTES: [route()]}, gateway)
    assert await shell.run("ask", "hello") == (0, "heard by Bearer sk-client path slm")
    assert not [call for call in kubectl_calls(shell.directory) if "secret" in call]


async def test_namespace_and_context_are_handed_to_kubectl(shell: Shell, gateway: int) -> None:
    shell.install({ROUTES: [route()], "secret": [secret()]}, gateway)
    place = ("--namespace", "shop", "--context", "lab", "--route", "support")
    code, _ = await shell.run("costs", *place, app=machine_app)
    assert code == 0
    for call in kubectl_calls(shell.directory):
        assert call[:2] == ["--namespace=shop", "--context=lab"]
    await shell.run("costs")
    assert kubectl_calls(shell.directory)[-1][0] == "port-forward"  # kubectl's own defaults


async def test_without_a_place_the_command_is_about_this_machine(shell: Shell) -> None:
    shell.install({ROUTES: [route()]})
    code, told = await shell.run("status", app=machine_app)
    assert (code, told) == (1, "error: no route is up; start one with: hybridroute up -f FILE")


PROBLEMS: list[tuple[str, dict[str, list[dict[str, Any]]], tuple[str, ...], str]] = [
    ("none", {}, (), "no route is in this namespace; choose another with --namespace"),
    (
        "several",
        {ROUTES: [route("a"), route("b")]},
        (),
        "several routes are there: a, b; choose one with --route",
    ),
    ("unknown", {}, ("--route", "other"), "route other does not exist"),
    (
        "deleted, and KubeRay is down",
        {SERVICES: [leaving("support")]},
        ("--route", "support"),
        "route support does not exist, but RayService support-slm is being deleted and waits for"
        " ray.io/rayservice-finalizer, which KubeRay takes away when it runs",
    ),
    (
        "not made yet",
        {ROUTES: [route()]},
        (),
        "Secret support-internal does not exist: the operator has not made the route yet",
    ),
]


@pytest.mark.parametrize(
    ("objects", "options", "text"), [p[1:] for p in PROBLEMS], ids=[p[0] for p in PROBLEMS]
)
async def test_what_is_missing_is_said(
    shell: Shell, objects: dict[str, Any], options: tuple[str, ...], text: str
) -> None:
    shell.install(objects)
    assert await shell.run("costs", *options) == (1, f"error: {text}")


async def test_a_cluster_without_the_definition_and_a_machine_without_kubectl(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_kubectl(tmp_path, {}, None)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    code, told = await shell.run("status")
    assert code == 1
    assert told.endswith('''error: the server doesn't have a resource type "hybridroutes.hybridroute.dev"''')
    monkeypatch.setenv("PATH", str(tmp_path))
    assert await shell.run("status") == (
        1,
        "error: kubectl is not on PATH, and a cluster is reached through it: install it",
    )
