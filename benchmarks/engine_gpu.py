"""The SLM application with vLLM on a GPU: what it serves, and its tokens per second against vLLM's own server.

    python -m benchmarks.engine_gpu MODEL [--rounds 3] [--tokens 128] [--streams 1 16 64] [--engine-args JSON] ...

MODEL is a folder in Hugging Face's layout. One engine, in one process, is served twice by uvicorn: by the SLM
application, and by vLLM's own application as `vllm serve` builds it. Clients are processes of their own. Both servers
take turns, so that the ratio is of the same engine, card and minute. Needs no Ray.
"""

import argparse
import asyncio
import contextlib
import json
import platform
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, Final

import aiohttp
import uvicorn
from benchmarks.engine import Server, ask
from benchmarks.engine_surface import check_surface
from benchmarks.load import how_measured, percentile, write_results
from benchmarks.provider import HOST, free_port

from hybridroute_api.records import AttemptReport, OpenAttempt
from hybridroute_api.serving import SlmArgs
from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.engines.vllm import VllmEngine, VllmSettings
from hybridroute_serve.slm.admission import Admission
from hybridroute_serve.slm.app import SlmParts, build_slm_app
from hybridroute_serve.slm.busy import BusyShare
from hybridroute_serve.slm.in_process import InProcessTransport
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["Round", "measure"]

NAME: Final = "measured"
TOKEN: Final = "internal"
HEADERS: Final[Mapping[str, str]] = {
    InternalHeader.TOKEN: TOKEN,
    InternalHeader.REQUEST_ID: "hr-1",
    InternalHeader.GATE: "forced",
}
STREAMS_PER_CLIENT: Final = 16
REQUESTS_PER_STREAM: Final = 8
ENGINE_ARGS: Final = {
    "attention-backend": "TRITON_ATTN",
    "gpu-memory-utilization": "0.5",
    "compilation-config": '{"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}',
}


@dataclass(frozen=True, slots=True)
class Round:
    """One server's turn at one number of streams."""

    server: str
    streams: int
    number: int
    tokens: int
    seconds: float
    first_token_ms_p50: float
    failed: int

    @property
    def tokens_per_second(self) -> float:
        """Completion tokens of all streams, a second."""
        return self.tokens / self.seconds


@dataclass(slots=True)
class Tally:
    """A journal that counts."""

    opened: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Count an attempt."""
        del attempt
        self.opened += 1

    def close_attempt(self, report: AttemptReport) -> None:
        """Count how it ended."""
        self.outcomes[report.outcome] = self.outcomes.get(report.outcome, 0) + 1


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start the engine, check what it serves and let both servers take turns."""
    engine = VllmEngine(
        VllmSettings(
            model_uri=options.model,
            model_name=NAME,
            context_tokens=options.context_tokens,
            parallel_sequences=max(options.streams),
            tensor_parallel=1,
            arguments=options.engine_args,
            adapters={},
            hub_token_file=None,
        )
    )
    began = time.monotonic()
    await engine.start()
    try:
        await engine.check_ready()
        start_seconds = time.monotonic() - began
        tally = Tally()
        own = slm_app(engine, tally, options)
        assert engine.app is not None
        async with listening(cancelled_with_client(own)) as own_url, listening(engine.app) as bare_url:
            async with aiohttp.ClientSession(own_url, headers=HEADERS) as session:
                checks = await check_surface(engine, session, NAME)
            checks["attempts"] = f"{tally.opened} opened; closed {json.dumps(tally.outcomes)}"
            servers = [
                Server("bare", f"{bare_url}/v1/chat/completions", NAME, ()),
                Server("slm", f"{own_url}/v1/chat/completions", NAME, ()),
            ]
            rounds = await play_rounds(servers, options)
    finally:
        await engine.close()
    return {
        "on": versions(),
        "start_seconds": round(start_seconds, 1),
        "checks": checks,
        "rounds": [asdict(one) | {"tokens_per_second": one.tokens_per_second} for one in rounds],
    }


def slm_app(engine: VllmEngine, tally: Tally, options: argparse.Namespace) -> ASGIApp:
    """Return the SLM application as a replica composes it, but for its journal."""
    args = SlmArgs(
        route="measured",
        token_file="/unused",
        keeper_url="http://127.0.0.1:1",
        journal_dir="/unused",
        engine="vllm",
        model_uri=options.model,
        model_name=NAME,
        context_tokens=options.context_tokens,
        parallel_sequences=max(options.streams),
        max_ongoing_requests=1000,
        first_byte_seconds=60.0,
        total_seconds=120.0,
    )

    async def nothing() -> None:
        pass

    parts = SlmParts(
        token=TOKEN,
        engine=engine,
        transport=InProcessTransport(lambda: engine.app),
        journal=tally,
        busy=BusyShare(time.monotonic()),
        admission=Admission(limit=args.max_ongoing_requests, engine_places=args.parallel_sequences),
        wall_clock=time.time,
        monotonic_clock=time.monotonic,
        start=nothing,
        stop=nothing,
    )
    return build_slm_app(args, parts)


def cancelled_with_client(app: ASGIApp) -> ASGIApp:
    """Return the application with its call cancelled when the client leaves, as Serve does; uvicorn does not."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        asked = asyncio.Event()

        async def hear() -> Any:
            message = await receive()
            if not message.get("more_body", False):
                asked.set()
            return message

        async def watch() -> None:
            await asked.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            serving.cancel()

        serving = asyncio.ensure_future(app(scope, hear, send))
        watching = asyncio.create_task(watch())
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        watching.cancel()

    return serve


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve the application, whose start has been made, on a free port."""
    port = free_port()
    settings = uvicorn.Config(
        app, host=HOST, port=port, lifespan="off", access_log=False, log_level="warning"
    )
    server = uvicorn.Server(settings)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    try:
        yield f"http://{HOST}:{port}"
    finally:
        server.should_exit = True
        await serving


async def play_rounds(servers: list[Server], options: argparse.Namespace) -> list[Round]:
    """Let the servers take turns at each number of streams; a round before the first is not counted."""
    rounds = []
    clients = max(1, max(options.streams) // STREAMS_PER_CLIENT)
    with ProcessPoolExecutor(clients, get_context("spawn")) as pool:
        for streams in options.streams:
            for number in range(options.rounds + 1):
                for server in servers if number % 2 else servers[::-1]:
                    played = await play_round(pool, server, streams, number, options.tokens)
                    if number:
                        rounds.append(played)
                        print(f"{streams} {number} {server.name}: {played.tokens_per_second:.0f}", flush=True)
    return rounds


async def play_round(
    pool: ProcessPoolExecutor, server: Server, streams: int, number: int, tokens: int
) -> Round:
    """Have the clients' processes answer a round together."""
    loop = asyncio.get_running_loop()
    clients = max(1, streams // STREAMS_PER_CLIENT)
    parts = await asyncio.gather(
        *(
            loop.run_in_executor(pool, run_client, server, f"{number}-{client}", streams // clients, tokens)
            for client in range(clients)
        )
    )
    waits = [wait for part in parts for wait in part.waits_ms]
    return Round(
        server=server.name,
        streams=streams,
        number=number,
        tokens=sum(part.tokens for part in parts),
        seconds=max(part.ended_at for part in parts) - min(part.began_at for part in parts),
        first_token_ms_p50=percentile(waits, 0.5),
        failed=streams * REQUESTS_PER_STREAM - len(waits),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What one client process has seen of a round."""

    began_at: float
    """Monotonic second, the same clock in every process."""
    ended_at: float
    tokens: int
    waits_ms: list[float]


def run_client(server: Server, mark: str, streams: int, tokens: int) -> Part:
    """Play a client's share of a round, in a process of its own."""

    async def play() -> Part:
        waits: list[float] = []
        total = 0

        async def stream(own: int) -> None:
            nonlocal total
            for request in range(REQUESTS_PER_STREAM):
                first_seconds, count = await ask(session, server, f"{mark}-{own}-{request}", tokens)
                waits.append(1000 * first_seconds)
                total += count

        async with aiohttp.ClientSession(headers=HEADERS, connector=aiohttp.TCPConnector(limit=0)) as session:
            began_at = time.monotonic()
            await asyncio.gather(*(stream(own) for own in range(streams)))
            return Part(began_at, time.monotonic(), total, waits)

    return asyncio.run(play())


def versions() -> dict[str, str]:
    """Return the card and the versions that the result holds for."""
    torch = import_module("torch")  # comes with vLLM

    names = ("vllm", "torch", "transformers", "triton", "xgrammar", "uvicorn")
    return {
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def report(document: dict[str, Any], options: argparse.Namespace, how: str) -> list[str]:
    """Return the result as Markdown."""
    on = ", ".join(f"{name} {value}" for name, value in document["on"].items())
    lines = [
        "# The SLM application with vLLM on a GPU, and vLLM's own server",
        "",
        how,
        f"{on}. Engine arguments: {json.dumps(options.engine_args)}.",
        f"Ready, by a first completion, after {document['start_seconds']} s. Closed loops of {options.tokens} tokens,"
        f" {REQUESTS_PER_STREAM} requests a stream, {options.rounds} rounds each, in turns; medians of the rounds.",
        "",
        "| streams | bare tokens/s | SLM tokens/s | SLM / bare | bare first token p50 | SLM first token p50 | failed |",
        "|---|---|---|---|---|---|---|",
    ]
    for streams in options.streams:
        own = [one for one in document["rounds"] if one["streams"] == streams]
        rate, first = (
            {name: median(one[figure] for one in own if one["server"] == name) for name in ("bare", "slm")}
            for figure in ("tokens_per_second", "first_token_ms_p50")
        )
        lines.append(
            f"| {streams} | {rate['bare']:.0f} | {rate['slm']:.0f} | {100 * rate['slm'] / rate['bare']:.1f} %"
            f" | {first['bare']:.1f} ms | {first['slm']:.1f} ms | {sum(one['failed'] for one in own)} |"
        )
    lines += ["", f"SLM / bare round by round: {by_round(document['rounds'], options.streams)}."]
    lines += ["", "| through the SLM application | seen |", "|---|---|"]
    lines += [f"| {name} | {' '.join(value.split())} |" for name, value in document["checks"].items()]
    return lines


def by_round(rounds: list[dict[str, Any]], numbers_of_streams: list[int]) -> str:
    """Return the ratio of each round, which says how far they scatter."""
    rates = {(one["server"], one["streams"], one["number"]): one["tokens_per_second"] for one in rounds}
    said = []
    for streams in numbers_of_streams:
        numbers = sorted({number for _, own, number in rates if own == streams})
        shares = [100 * rates["slm", streams, number] / rates["bare", streams, number] for number in numbers]
        said.append(f"{streams} streams {', '.join(f'{share:.1f}' for share in shares)} %")
    return "; ".join(said)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, help="folder in Hugging Face's layout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--context-tokens", type=int, default=2048)
    parser.add_argument("--engine-args", type=json.loads, default=ENGINE_ARGS)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default="engine_gpu", help="of the result's files")
    options = parser.parse_args()
    work = options.model.resolve()
    options.model = str(work)
    document = asyncio.run(measure(options))
    how = how_measured("benchmarks.engine_gpu", work)
    write_results(options.output, options.name, report(document, options, how), document)


if __name__ == "__main__":
    main()
