"""Tokens per second of vLLM through the whole route, against the same server bare.

    python -m benchmarks.engine WORK [--rounds 5] [--streams 16] [--requests 32] [--tokens 64] ...

WORK keeps the model between runs. Both engines are loaded at once and take turns, round by round: the one that waits
is stopped (SIGSTOP), so that it takes no processor time. A round is a closed loop of streams until all its requests
have been answered. On CPU run it with the environment of `make venv-vllm`; `--model` serves another one.
"""

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import psutil
import yaml
from benchmarks.load import client_session, how_measured, percentile, write_results
from benchmarks.provider import HOST, free_port

__all__ = ["Round", "measure"]

START_SECONDS: Final = 1800.0
NAME: Final = "measured"
ENGINE_PROCESSES: Final = ("VLLM::", "multiprocessing.spawn")


@dataclass(frozen=True, slots=True)
class Server:
    """One way to the model."""

    name: str
    url: str
    model: str
    processes: tuple[psutil.Process, ...]
    """The engine's own: stopped while the other is measured."""


@dataclass(frozen=True, slots=True)
class Round:
    """One server's turn."""

    server: str
    number: int
    tokens: int
    seconds: float
    first_token_ms_p50: float
    first_token_ms_p99: float
    failed: int

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens of all streams, a second."""
        return self.tokens / self.seconds


async def measure(options: argparse.Namespace) -> list[Round]:
    """Start both servers and let them take turns."""
    rounds = []
    async with started_bare(options) as bare, started_route(options) as route, client_session() as session:
        for server in (bare, route):
            with alone(server, (bare, route)):
                await play_round(session, server, options, number=0)
        for number in range(1, options.rounds + 1):
            # Who goes first changes: what drifts during a round hits both alike.
            for server in (bare, route) if number % 2 else (route, bare):
                with alone(server, (bare, route)):
                    rounds.append(await play_round(session, server, options, number=number))
                print(
                    f"round {number} {server.name}: {rounds[-1].tokens_per_second:.1f} tokens/s", flush=True
                )
    return rounds


async def play_round(
    session: aiohttp.ClientSession, server: Server, options: argparse.Namespace, *, number: int
) -> Round:
    """Answer so many requests, so many at a time."""
    left = iter(range(options.requests))
    waits: list[float] = []
    tokens = failed = 0

    async def client() -> None:
        nonlocal tokens, failed
        for request in left:
            try:
                first_seconds, count = await ask(session, server, f"{number}-{request}", options.tokens)
            except (aiohttp.ClientError, TimeoutError):
                failed += 1
                continue
            waits.append(first_seconds * 1000)
            tokens += count
            failed += count == 0

    began = time.monotonic()
    await asyncio.gather(*(client() for _ in range(options.streams)))
    seconds = time.monotonic() - began
    return Round(
        server.name, number, tokens, seconds, percentile(waits, 0.5), percentile(waits, 0.99), failed
    )


async def ask(session: aiohttp.ClientSession, server: Server, mark: str, tokens: int) -> tuple[float, int]:
    """Stream one answer; return the wait for its first token, and how many came by the server's own count."""
    body = {
        "model": server.model,
        "messages": [{"role": "user", "content": f"Question {mark}: what is the sea?"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = time.monotonic()
    first_seconds, count = 0.0, 0
    timeout = aiohttp.ClientTimeout(total=600)
    async with session.post(server.url, json=body, timeout=timeout) as answer:
        answer.raise_for_status()
        async for line in answer.content:
            if not first_seconds and b'"content":"' in line and b'"content":""' not in line:
                first_seconds = time.monotonic() - began
            if b'"completion_tokens"' in line:
                count = json.loads(line.removeprefix(b"data: "))["usage"]["completion_tokens"]
    return first_seconds, count


@contextmanager
def alone(server: Server, servers: tuple[Server, ...]) -> Iterator[None]:
    """Stop the engines of the others meanwhile."""
    others = [process for other in servers if other is not server for process in other.processes]
    for process in others:
        process.suspend()
    try:
        yield
    finally:
        for process in others:
            process.resume()


@asynccontextmanager
async def started_bare(options: argparse.Namespace) -> AsyncIterator[Server]:
    """vLLM's server, as `vllm serve` runs it, with the arguments that the route gives its own."""
    port = free_port()
    words = [
        f"--model={options.model}",
        f"--served-model-name={NAME}",
        f"--max-model-len={options.context_tokens}",
        f"--max-num-seqs={options.streams}",
        f"--host={HOST}",
        f"--port={port}",
        "--disable-uvicorn-access-log",
        *(
            f"--{name}" if value == "true" else f"--{name}={value}"
            for name, value in options.engine_args.items()
        ),
    ]
    log = options.work / "bare.log"
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: ASYNC220 - at once; it is polled
            [sys.executable, "-W", "ignore", "-m", "vllm.entrypoints.launchers.api_server.entry", *words],
            stdout=file,
            stderr=file,
            env={**os.environ, "VLLM_WORKER_MULTIPROC_METHOD": "spawn"},
        )
    url = f"http://{HOST}:{port}/v1/chat/completions"
    try:
        await until_it_answers(url, NAME, process)
        yield Server("bare", url, NAME, engine_processes(psutil.Process(process.pid)))
    finally:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, alive = psutil.wait_procs(tree, timeout=30)
        for one in alive:
            one.kill()
        process.wait()


@asynccontextmanager
async def started_route(options: argparse.Namespace) -> AsyncIterator[Server]:
    """`hybridroute up` with the same engine, the SLM forced by its model name, and `hybridroute down`."""
    home = options.work / f"home-{free_port()}"
    home.mkdir()
    file = home / "route.yaml"
    file.write_text(yaml.safe_dump(route_document(options)))
    port = free_port()
    environ = {**os.environ, "HYBRIDROUTE_HOME": str(home), "COLUMNS": "200"}
    environ.pop("OPENAI_API_KEY", None)

    async def command(*words: str) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "hybridroute_cli.main", *words, env=environ, stdout=subprocess.DEVNULL
        )
        if await process.wait():
            raise SystemExit(f"hybridroute {words[0]} failed")

    try:
        await command("up", "-f", str(file), "--detach", "--port", str(port))
        run = json.loads((home / "engine" / "run.json").read_text())
        replicas = [
            process
            for process in psutil.process_iter()
            if _name(process).startswith("ray::ServeReplica:slm") and _belongs(process, run["run_id"])
        ]
        processes = tuple(one for replica in replicas for one in engine_processes(replica))
        yield Server("route", f"http://{HOST}:{port}/v1/chat/completions", "slm", processes)
    finally:
        with contextlib.suppress(SystemExit):
            await command("down")


def route_document(options: argparse.Namespace) -> dict[str, Any]:
    """Return a route with the engine; its LLM path is the local stand-in, and is not asked."""
    prices = {"inputPerMillionTokensUSD": "2.50", "outputPerMillionTokensUSD": "10.00"}
    upstream = {"name": "unused", "baseURL": "http://127.0.0.1:1/v1", "model": "unused", "pricing": prices}
    slm: dict[str, Any] = {
        "engine": "vllm",
        "model": {"uri": options.model},
        "engineArgs": options.engine_args,
        "contextTokens": options.context_tokens,
        "parallelSequences": options.streams,
        "timeouts": {"firstByte": "5m", "total": "10m"},
        "scaling": {"targetOngoingRequests": options.streams},
        "pricing": {"machineHourUSD": "0.10", "gpuHourUSD": "0"},
        "resources": {"gpus": options.gpus},
    }
    return {
        "apiVersion": "hybridroute.dev/v1alpha1",
        "kind": "HybridRoute",
        "metadata": {"name": "engine"},
        "spec": {"slm": slm, "llm": {"upstreams": [upstream]}, "mode": "LocalOnly"},
    }


async def until_it_answers(url: str, model: str, process: subprocess.Popen[bytes]) -> None:
    """Ask until an answer is a 200."""
    body = {"model": model, "messages": [{"role": "user", "content": "ready?"}], "max_tokens": 1}
    async with asyncio.timeout(START_SECONDS), client_session() as session:
        while process.poll() is None:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                async with session.post(url, json=body) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.5)
    raise SystemExit("vLLM's server ended before it answered; its log is bare.log in the work folder")


def engine_processes(parent: psutil.Process) -> tuple[psutil.Process, ...]:
    """Return the engine's processes below a server's or replica's."""
    found = parent.children(recursive=True)
    return tuple(one for one in found if any(mark in _name(one) for mark in ENGINE_PROCESSES))


def _name(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _belongs(process: psutil.Process, run_id: str) -> bool:
    try:
        return run_id in process.environ().values()
    except psutil.Error:
        return False


def report(rounds: list[Round], options: argparse.Namespace, how: str) -> list[str]:
    """Return the result as Markdown."""
    lines = [
        "# vLLM through the route, and bare",
        "",
        how,
        f"Closed loop of {options.streams} streams, {options.requests} requests of {options.tokens} tokens a round,"
        f" {options.rounds} rounds each, in turns; the engine that waits is stopped."
        f" Engine arguments: {json.dumps(options.engine_args)}.",
        "",
        "| server | tokens/s, median | least | most | first token p50 | p99 | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    middle = {}
    for name in ("bare", "route"):
        own = [one for one in rounds if one.server == name]
        rates = [one.tokens_per_second for one in own]
        middle[name] = median(rates)
        lines.append(
            f"| {name} | {median(rates):.1f} | {min(rates):.1f} | {max(rates):.1f}"
            f" | {median(one.first_token_ms_p50 for one in own):.0f} ms"
            f" | {median(one.first_token_ms_p99 for one in own):.0f} ms | {sum(one.failed for one in own)} |"
        )
    numbers = sorted({one.number for one in rounds})
    by_key = {(one.server, one.number): one.tokens_per_second for one in rounds}
    shares = [by_key["route", number] / by_key["bare", number] for number in numbers]
    lines += [
        "",
        f"Route / bare: {100 * middle['route'] / middle['bare']:.1f} % of the medians;"
        f" {100 * median(shares):.1f} % in the median round"
        f" ({', '.join(f'{100 * share:.1f}' for share in shares)}).",
    ]
    return lines


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--model", help="folder or hf:// URI; default: the bundled model, converted")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--context-tokens", type=int, default=1024)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument(
        "--engine-args", type=json.loads, default={"kv-cache-memory-bytes": str(512 * 1024**2)}
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="engine", help="of the result's files")
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    if options.model is None:
        script = Path(__file__).parents[1] / "tests" / "support" / "vllm_models.py"
        subprocess.run([sys.executable, "-W", "ignore", script, options.work / "models"], check=True)
        options.model = str(options.work / "models" / "smollm2-135m")
    rounds = asyncio.run(measure(options))
    how = how_measured("benchmarks.engine", options.work)
    write_results(
        options.output,
        options.name,
        report(rounds, options, how),
        {"rounds": [asdict(one) for one in rounds]},
    )


if __name__ == "__main__":
    main()
