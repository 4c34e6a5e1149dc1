"""vLLM's own OpenAI server as an application in this process; its engine runs in processes beside.

The application is built as `vllm serve` builds it, in the replica's loop, and is called without a socket, so that its
whole surface is there. Used by the SLM application.
"""

import argparse
import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hybridroute_api.model_uris import parse_hub
from hybridroute_serve.engines.engine import EngineDeadError, EngineDescription, EngineError, EngineSignals
from hybridroute_serve.engines.in_process import post_to_app, read_whole
from hybridroute_serve.engines.models import find_folder, hash_folder
from hybridroute_serve.engines.vllm_arguments import ArgumentProblem, is_installed, parse_arguments
from hybridroute_serve.engines.vllm_dialect import VllmDialect
from hybridroute_serve.engines.vllm_orphans import OWNED
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["VllmEngine", "VllmSettings"]

_log = logging.getLogger(__name__)

_MOST_ADAPTERS_AT_ONCE = 4
"""Adapters in one batch: each takes accelerator memory from the start. `max-loras` sets another number."""
_PROGRESS_SECONDS = 10.0
_RUNNING, _WAITING, _CACHE = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
)


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """What an engine is started with."""

    model_uri: str
    """`hf://…` or the path of a folder."""
    model_name: str
    """How answers name the model."""
    context_tokens: int
    """Of one sequence."""
    parallel_sequences: int
    tensor_parallel: int
    """Accelerators that the model is split over."""
    arguments: Mapping[str, str]
    """Further arguments of vLLM's command line."""
    adapters: Mapping[str, str]
    """LoRA adapters, name to URI."""
    hub_token_file: str | None


class VllmEngine:
    """One model in one vLLM engine."""

    base_url = ""
    headers: Mapping[str, str] = {}

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self._stack = AsyncExitStack()
        self._description: EngineDescription | None = None
        self._client: Any = None
        self.app: ASGIApp | None = None
        self.dialect = VllmDialect()

    async def start(self) -> None:
        """Load the model and build the application. Raises `EngineError`.

        vLLM starts its processes without letting go of the loop; a thread logs how long it has been at it.
        """
        if not is_installed():
            raise EngineError(
                "vLLM is not installed; install vllm in the SLM's image, or hybridroute[vllm] here"
            )
        settings = self._settings
        model = _local_model(settings.model_uri, "spec.slm.model.uri")
        adapters = {
            name: _local_model(uri, f"spec.slm.adapters.{name}") for name, uri in settings.adapters.items()
        }
        _prepare_environment(settings)
        began = time.monotonic()
        with _logged_progress(settings.model_name):
            try:
                # In a thread: importing vLLM takes seconds.
                own = _own_words(settings, model, adapters)
                parsed = await asyncio.to_thread(parse_arguments, own, settings.arguments)
                self.app, self._client = await self._stack.enter_async_context(_serving(parsed))
            except ArgumentProblem as problem:
                raise EngineError(f"spec.slm.engineArgs: {problem}") from None
            except (ValueError, TypeError, RuntimeError, OSError) as error:
                await self.close()
                raise EngineError(f"vLLM could not start {settings.model_name}: {error}") from error
            digest = await asyncio.to_thread(_digest, settings.model_uri)
        self._description = EngineDescription(
            engine="vllm",
            model=settings.model_name,
            digest=digest,
            context_tokens=settings.context_tokens,
            parallel_sequences=settings.parallel_sequences,
            tools=True,
            completion_options=frozenset({"echo", "logprobs"}),
            completion_formats=True,
            adapters=tuple(sorted(adapters)),
        )
        _log.info(
            "engine started engine=vllm model=%s digest=%s context_tokens=%d parallel_sequences=%d adapters=%d"
            " seconds=%.1f",
            settings.model_name,
            digest,
            settings.context_tokens,
            settings.parallel_sequences,
            len(adapters),
            time.monotonic() - began,
        )

    async def check_ready(self) -> None:
        """Generate one token. Raises `EngineError`."""
        began = time.monotonic()
        question = {"model": self._settings.model_name, "prompt": "Hi", "max_tokens": 1}
        app = self._running_app()
        try:
            answer = await post_to_app(app, "/v1/completions", msgspec.json.encode(question), [])
            body = await read_whole(answer)
        except OSError as error:
            raise EngineError(f"vLLM gave no first completion: {error}") from None
        if answer.status != 200 or b'"choices"' not in body:
            raise EngineError(f"vLLM answered its first completion with status {answer.status}")
        _log.info(
            "engine ready model=%s first_completion_seconds=%.1f",
            self._settings.model_name,
            time.monotonic() - began,
        )

    async def signals(self) -> EngineSignals:
        """Read the engine's own metrics, which are kept in this process. Raises `EngineError`."""
        self._running_app()
        if self._client.errored:
            raise EngineDeadError(f"vLLM's engine died: {self._client.dead_error}")
        from prometheus_client import REGISTRY  # noqa: PLC0415 - vLLM's registry

        values = dict.fromkeys((_RUNNING, _WAITING, _CACHE), 0.0)
        for family in REGISTRY.restricted_registry(list(values)).collect():
            for sample in family.samples:
                if sample.name == _CACHE:
                    values[_CACHE] = max(values[_CACHE], sample.value)
                elif sample.name in values:
                    values[sample.name] += sample.value
        return EngineSignals(int(values[_RUNNING]), int(values[_WAITING]), values[_CACHE])

    def describe(self) -> EngineDescription:
        """Say what is served."""
        if self._description is None:
            raise EngineError("vLLM has not been started")
        return self._description

    async def close(self) -> None:
        """End the engine's processes; what is in flight breaks off."""
        self.app = None
        await self._stack.aclose()

    def _running_app(self) -> ASGIApp:
        if self.app is None:
            raise EngineError("vLLM is not running")
        return self.app


@asynccontextmanager
async def _serving(parsed: argparse.Namespace) -> AsyncIterator[tuple[ASGIApp, Any]]:
    """Start the engine and yield its server's application and its client, as `vllm serve` does without the socket."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state  # noqa: PLC0415
    from vllm.entrypoints.launchers.api_server.entry import build_async_engine_client  # noqa: PLC0415
    from vllm.entrypoints.launchers.app import build_app  # noqa: PLC0415

    async with build_async_engine_client(parsed) as client:
        tasks = await client.get_supported_tasks()
        app = build_app(parsed, tasks, client.model_config)
        await init_app_state(client, app.state, parsed, tasks)
        async with app.router.lifespan_context(app):
            yield app, client


def _own_words(settings: VllmSettings, model: str, adapters: Mapping[str, str]) -> list[str]:
    """Return the part of vLLM's command line that the route's own fields say."""
    hub = parse_hub(settings.model_uri)
    words = [
        f"--model={model}",
        f"--served-model-name={settings.model_name}",
        f"--max-model-len={settings.context_tokens}",
        f"--max-num-seqs={settings.parallel_sequences}",
        f"--tensor-parallel-size={settings.tensor_parallel}",
    ]
    if settings.tensor_parallel > 1:
        # vLLM would ask Ray for further actors; the replica holds all its accelerators itself.
        words.append("--distributed-executor-backend=mp")
    if hub is not None and hub.revision is not None:
        words.append(f"--revision={hub.revision}")
    if adapters:
        words += [
            "--enable-lora",
            f"--max-loras={min(len(adapters), _MOST_ADAPTERS_AT_ONCE)}",
            "--lora-modules",
        ]
        words += [f"{name}={path}" for name, path in sorted(adapters.items())]
    return words


def _local_model(uri: str, field: str) -> str:
    """Return what vLLM loads: a hub's repository, or a folder that is there. Raises `EngineError`."""
    hub = parse_hub(uri)
    return hub.repository if hub is not None else str(find_folder(uri, field))


def _digest(uri: str) -> str:
    """Return the digest of the weights that have been loaded, from the hub's local copy where they came from there."""
    hub = parse_hub(uri)
    if hub is None:
        return hash_folder(Path(uri).expanduser())
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - comes with vLLM

    return hash_folder(Path(snapshot_download(hub.repository, revision=hub.revision, local_files_only=True)))


def _prepare_environment(settings: VllmSettings) -> None:
    """Set what vLLM and its processes read from the environment, before it is imported."""
    os.environ[OWNED] = "1"
    # A fork of this process would copy its threads' locks.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if settings.hub_token_file is not None:
        os.environ["HF_TOKEN_PATH"] = settings.hub_token_file


@contextmanager
def _logged_progress(model: str) -> Iterator[None]:
    """Log every few seconds that the engine is still loading, from a thread: the loop may be held."""
    done = threading.Event()
    began = time.monotonic()

    def log() -> None:
        while not done.wait(_PROGRESS_SECONDS):
            _log.info("engine was loading model=%s seconds=%.0f", model, time.monotonic() - began)

    thread = threading.Thread(target=log, name="engine-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
