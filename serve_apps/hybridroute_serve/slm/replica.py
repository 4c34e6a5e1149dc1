"""Composition root of one SLM replica: the engine, the way to it, journal and reporter around the ASGI application."""

import asyncio
import os
import time
from pathlib import Path

from hybridroute_api.facts import MODEL_DIGEST
from hybridroute_api.serving import SlmArgs
from hybridroute_serve.engines.cpus import choose_threads, usable_cpus
from hybridroute_serve.engines.engine import Engine
from hybridroute_serve.engines.llamacpp import LlamaCppEngine, LlamaCppSettings
from hybridroute_serve.engines.vllm import VllmEngine, VllmSettings
from hybridroute_serve.journal import Reporter, ReporterSettings, Vitals
from hybridroute_serve.slm.admission import Admission
from hybridroute_serve.slm.app import SlmParts, build_slm_app
from hybridroute_serve.slm.busy import BusyShare
from hybridroute_serve.slm.in_process import InProcessTransport
from hybridroute_serve.slm.signals import SignalWatch
from hybridroute_serve.upstream.client import UpstreamClient
from hybridroute_serve.upstream.transport import AttemptTransport
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["SlmReplica"]


class SlmReplica:
    """Owns what lives as long as the replica."""

    def __init__(self, args: SlmArgs, *, replica: str) -> None:
        self._args = args
        self._engine = _make_engine(args)
        self._watch = SignalWatch(self._engine, on_dead=_end_process)
        # An engine that listens is reached over loopback, one that is an application by a call.
        self._client = UpstreamClient() if args.engine == "llamacpp" else None
        self._transport: AttemptTransport = self._client or InProcessTransport(lambda: self._engine.app)
        self._busy = BusyShare(time.monotonic())
        self._admission = Admission(limit=args.max_ongoing_requests, engine_places=args.parallel_sequences)
        self._reporter = Reporter(
            ReporterSettings(
                journal_dir=Path(args.journal_dir),
                keeper_url=args.keeper_url,
                token_file=Path(args.token_file),
                replica=replica,
                app="slm",
            ),
            self._observe_vitals,
        )

    async def build_app(self) -> ASGIApp:
        """Make the application; its lifespan loads the model, and starts and stops the rest."""
        token = (await asyncio.to_thread(Path(self._args.token_file).read_text)).strip()
        return build_slm_app(
            self._args,
            SlmParts(
                token=token,
                engine=self._engine,
                transport=self._transport,
                journal=self._reporter.journal,
                busy=self._busy,
                admission=self._admission,
                wall_clock=time.time,
                monotonic_clock=time.monotonic,
                start=self._start,
                stop=self._stop,
            ),
        )

    async def _start(self) -> None:
        await self._engine.start()
        await self._engine.check_ready()
        if self._client is not None:
            await self._client.start()
        self._watch.start()
        await self._reporter.start()

    async def _stop(self) -> None:
        await self._reporter.stop()
        await self._watch.stop()
        if self._client is not None:
            await self._client.stop()
        await self._engine.close()

    def _observe_vitals(self) -> Vitals:
        return Vitals(
            busy_seconds=self._busy.busy_seconds(time.monotonic()),
            ongoing=self._admission.ongoing,
            facts={MODEL_DIGEST: self._engine.describe().digest, **self._watch.facts()},
        )


def _end_process() -> None:
    """End as a crash would: Serve starts another replica, and what was in flight here has failed already."""
    os._exit(1)


def _make_engine(args: SlmArgs) -> Engine:
    match args.engine:
        case "llamacpp":
            return LlamaCppEngine(
                LlamaCppSettings(
                    model_uri=args.model_uri,
                    model_name=args.model_name,
                    context_tokens=args.context_tokens,
                    parallel_sequences=args.parallel_sequences,
                    threads=choose_threads(usable_cpus()),
                )
            )
        case "vllm":
            return VllmEngine(
                VllmSettings(
                    model_uri=args.model_uri,
                    model_name=args.model_name,
                    context_tokens=args.context_tokens,
                    parallel_sequences=args.parallel_sequences,
                    tensor_parallel=args.tensor_parallel,
                    arguments=args.engine_args,
                    adapters=args.adapters,
                    hub_token_file=args.hub_token_file,
                )
            )
