"""The SLM application with a client that speaks as the router does, and a journal that remembers."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from hybridroute_api.serving import SlmArgs
from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.engines.cpus import choose_threads, usable_cpus
from hybridroute_serve.engines.engine import Dialect, Engine, EngineDescription, EngineSignals
from hybridroute_serve.engines.llamacpp import LlamaCppSettings
from hybridroute_serve.engines.llamacpp_dialect import LlamaCppDialect
from hybridroute_serve.slm.admission import Admission
from hybridroute_serve.slm.app import SlmParts, build_slm_app
from hybridroute_serve.slm.busy import BusyShare
from hybridroute_serve.slm.in_process import InProcessTransport
from hybridroute_serve.upstream.client import UpstreamClient
from hybridroute_serve.wire.asgi import ASGIApp
from support.asgi_client import AsgiClient
from support.attempts import TOKEN, AttemptLedger

__all__ = ["BUNDLED", "ScriptedEngine", "SlmBench", "chat", "running_slm", "slm_args"]

BUNDLED = LlamaCppSettings(
    model_uri="bundled:smollm2-135m",
    model_name="small",
    context_tokens=2048,
    parallel_sequences=4,
    threads=choose_threads(usable_cpus()),
)


class ScriptedEngine:
    """Stands for an engine whose server is scripted: for the faults that a real one cannot be made to show."""

    dialect: Dialect = LlamaCppDialect()

    def __init__(self, base_url: str, *, tools: bool = False, app: ASGIApp | None = None) -> None:
        self.base_url = base_url
        self.app = app
        self.headers: Mapping[str, str] = {"connection": "close"}
        self._tools = tools

    async def start(self) -> None:
        """It runs already."""

    async def check_ready(self) -> None:
        """It is ready."""

    async def signals(self) -> EngineSignals:
        return EngineSignals(running=0, waiting=0)

    def describe(self) -> EngineDescription:
        return EngineDescription(
            "scripted", "small", "sha256:0", 2048, 4, self._tools, most_choices=4, adapters=("cards",)
        )

    async def close(self) -> None:
        """Its script ends by itself."""


@dataclass
class SlmBench:
    """One SLM application."""

    app: ASGIApp
    client: AsgiClient
    ledger: AttemptLedger
    busy: BusyShare
    admission: Admission

    def headers(self, request_id: str = "hr-1", **changes: str) -> dict[str, str]:
        return {
            InternalHeader.TOKEN: TOKEN,
            InternalHeader.REQUEST_ID: request_id,
            InternalHeader.GATE: "confidence",
            **changes,
        }


def slm_args(**changes: Any) -> SlmArgs:
    values: dict[str, Any] = {
        "route": "support",
        "token_file": "/unused",
        "keeper_url": "http://127.0.0.1:1",
        "journal_dir": "/unused",
        "engine": "llamacpp",
        "model_uri": BUNDLED.model_uri,
        "model_name": BUNDLED.model_name,
        "context_tokens": BUNDLED.context_tokens,
        "parallel_sequences": BUNDLED.parallel_sequences,
        "max_ongoing_requests": 1000,
        "first_byte_seconds": 100.0,
        "total_seconds": 100.0,
    }
    return SlmArgs(**(values | changes))


async def _do_nothing() -> None:
    pass


@asynccontextmanager
async def running_slm(engine: Engine, **changes: Any) -> AsyncIterator[SlmBench]:
    """Run the application on an engine that has been started."""
    args = slm_args(**changes)
    client = UpstreamClient()
    ledger = AttemptLedger()
    busy = BusyShare(time.monotonic())
    admission = Admission(limit=args.max_ongoing_requests, engine_places=args.parallel_sequences)
    parts = SlmParts(
        token=TOKEN,
        engine=engine,
        transport=client if engine.app is None else InProcessTransport(lambda: engine.app),
        journal=ledger,
        busy=busy,
        admission=admission,
        wall_clock=time.time,
        monotonic_clock=time.monotonic,
        start=_do_nothing,
        stop=_do_nothing,
    )
    app = build_slm_app(args, parts)
    await client.start()
    try:
        yield SlmBench(app, AsgiClient(app, root_path="/slm"), ledger, busy, admission)
    finally:
        await client.stop()


def chat(text: str = "Say hi", **more: Any) -> dict[str, Any]:
    return {
        "model": "hybridroute",
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        **more,
    }
