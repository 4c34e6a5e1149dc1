"""llama.cpp's own HTTP server, run in this process by `xllamacpp`, on loopback and an ephemeral port.

A key made for the process guards it from other users of the machine. A crash in llama.cpp is a crash of the
process: Serve starts another replica. Used by the SLM application.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from hybridroute_serve.engines.cpus import Threads
from hybridroute_serve.engines.engine import EngineDescription, EngineError, EngineSignals
from hybridroute_serve.engines.llamacpp_dialect import LlamaCppDialect
from hybridroute_serve.engines.models import ModelFile, find_model, hash_file

__all__ = ["LlamaCppEngine", "LlamaCppSettings"]

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_ERRORS_ONLY = 1
"""llama.cpp's verbosity: nothing of a request reaches its log."""

_BATCH_TOKENS = 256
"""Prompt tokens processed at once. llama.cpp's 2048 would hold all other streams, and a cancellation, for some
ten seconds on two cores; at 256 prompts are as fast.
"""

_HTTP_THREADS_BESIDE_SEQUENCES = 8
"""A connection holds a thread; these are for health, metrics and what is just closing."""

_PROBE_SECONDS = 30.0
"""Deadline of one-token completions and of questions about load: a batch on a busy machine takes seconds."""

_RUNNING = "llamacpp:requests_processing"
_WAITING = "llamacpp:requests_deferred"


@dataclass(frozen=True, slots=True)
class LlamaCppSettings:
    """What an engine is started with."""

    model_uri: str
    model_name: str
    """How answers name the model."""
    context_tokens: int
    """Of one sequence; memory is taken for this times `parallel_sequences`."""
    parallel_sequences: int
    threads: Threads
    """CPU threads; see `engines.cpus`."""


class _Template(msgspec.Struct):
    supports_tools: bool = False


class _Generation(msgspec.Struct):
    n_ctx: int


class _Properties(msgspec.Struct):
    default_generation_settings: _Generation
    chat_template_caps: _Template


class LlamaCppEngine:
    """One model in one llama.cpp server."""

    def __init__(self, settings: LlamaCppSettings) -> None:
        self._settings = settings
        self._key = secrets.token_urlsafe(32)
        self._server: Any = None
        self._session: aiohttp.ClientSession | None = None
        self._base_url = ""
        self._description: EngineDescription | None = None
        self.dialect = LlamaCppDialect()

    @property
    def app(self) -> None:
        """None: the server is llama.cpp's own, and listens."""
        return

    @property
    def base_url(self) -> str:
        """Root of the server, without a trailing slash."""
        if self._server is None:
            raise EngineError("llama.cpp is not running")
        return self._base_url

    @property
    def headers(self) -> Mapping[str, str]:
        """The key; and no connection is kept, because an idle one would hold a thread of the server."""
        return {"authorization": f"Bearer {self._key}", "connection": "close"}

    async def start(self) -> None:
        """Load the model and listen. Raises `EngineError`.

        Loading holds the interpreter's lock, so nothing else runs meanwhile: 0.5 s for the bundled model.
        """
        model = await asyncio.to_thread(find_model, self._settings.model_uri)
        digest = await asyncio.to_thread(hash_file, model.path)
        self._server = _load_server(self._settings, model, self._key)
        self._base_url = self._server.listening_address
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),
            headers=dict(self.headers),
            timeout=aiohttp.ClientTimeout(total=_PROBE_SECONDS),
        )
        try:
            # Answered by the server's loop, so it runs: a server that is closed before it does never ends.
            await self.signals()
            self._description = self._read_properties(await self._get("/props"), digest)
        except EngineError:
            await self.close()
            raise
        _log.info(
            "engine started engine=llamacpp model=%s digest=%s context_tokens=%d parallel_sequences=%d",
            self._settings.model_name,
            digest,
            self._settings.context_tokens,
            self._settings.parallel_sequences,
        )

    async def check_ready(self) -> None:
        """Generate one token. Raises `EngineError`."""
        question = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
        answer = await self._request("POST", "/v1/chat/completions", question)
        if b'"choices"' not in answer:
            raise EngineError("llama.cpp answered without a completion; restart the replica")

    async def signals(self) -> EngineSignals:
        """Read the server's metrics. Raises `EngineError`."""
        values = dict.fromkeys((_RUNNING, _WAITING), 0)
        for line in (await self._get("/metrics")).decode().splitlines():
            name, _, value = line.partition(" ")
            if name in values:
                values[name] = int(float(value))
        return EngineSignals(running=values[_RUNNING], waiting=values[_WAITING])

    def describe(self) -> EngineDescription:
        """Say what is served."""
        if self._description is None:
            raise EngineError("llama.cpp has not been started")
        return self._description

    async def close(self) -> None:
        """Stop the server; what is in flight breaks off."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        # The server ends with its last reference, and joins its threads: about 0.1 s.
        last_reference = [self._server]
        self._server = None
        await asyncio.to_thread(last_reference.clear)

    def _read_properties(self, body: bytes, digest: str) -> EngineDescription:
        try:
            properties = msgspec.json.decode(body, type=_Properties)
        except msgspec.MsgspecError as error:
            raise EngineError(f"llama.cpp described itself in an unknown way: {error}") from None
        served_tokens = properties.default_generation_settings.n_ctx
        if served_tokens < self._settings.context_tokens:
            raise EngineError(
                f"the model has a context of {served_tokens} tokens and not {self._settings.context_tokens};"
                f" set spec.slm.contextTokens to at most {served_tokens}"
            )
        return EngineDescription(
            engine="llamacpp",
            model=self._settings.model_name,
            digest=digest,
            context_tokens=self._settings.context_tokens,
            parallel_sequences=self._settings.parallel_sequences,
            tools=properties.chat_template_caps.supports_tools,
            most_choices=self._settings.parallel_sequences,
        )

    async def _get(self, path: str) -> bytes:
        return await self._request("GET", path, None)

    async def _request(self, method: str, path: str, document: dict[str, Any] | None) -> bytes:
        if self._session is None:
            raise EngineError("llama.cpp is not running")
        try:
            async with self._session.request(method, self._base_url + path, json=document) as response:
                body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineError(f"llama.cpp did not answer {path}: {type(error).__name__}") from None
        if response.status != 200:
            raise EngineError(f"llama.cpp answered {path} with status {response.status}")
        return body


def _load_server(settings: LlamaCppSettings, model: ModelFile, key: str) -> Any:
    # libgomp reads this once, when xllamacpp's library is loaded: threads that wait give their core away.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        import xllamacpp  # noqa: PLC0415 - optional, and its library must be loaded after the line above
    except ImportError as error:
        raise EngineError(
            f"xllamacpp cannot be imported ({error}); run `pip install 'hybridroute[local]'`"
        ) from error
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model.path)
    parameters.model_alias = {settings.model_name}
    parameters.n_ctx = settings.context_tokens * settings.parallel_sequences
    parameters.n_parallel = settings.parallel_sequences
    parameters.cont_batching = True
    parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
    # Neither may change what was asked for, nor take memory that no one asked for (8 GiB by default).
    parameters.fit_params = False
    parameters.cache_ram_mib = 0
    parameters.enable_chat_template = parameters.use_jinja = True
    parameters.hostnames = [_LOOPBACK]
    parameters.port = 0
    parameters.api_keys = [key]
    parameters.n_threads_http = settings.parallel_sequences + _HTTP_THREADS_BESIDE_SEQUENCES
    parameters.endpoint_metrics = True
    # A server that closes waits for its handlers, and they look up once per ping: at 30 s it would take as long.
    parameters.sse_ping_interval = 1
    parameters.ui = False
    parameters.verbosity = _ERRORS_ONLY
    parameters.cpuparams.n_threads = settings.threads.generation
    parameters.cpuparams_batch.n_threads = settings.threads.prompts
    try:
        return xllamacpp.Server(parameters)
    except RuntimeError as error:
        raise EngineError(
            f"llama.cpp could not load {model.path}: {error} The file may be damaged or not a GGUF file, or memory"
            " may not suffice for spec.slm.contextTokens times spec.slm.parallelSequences"
        ) from error
