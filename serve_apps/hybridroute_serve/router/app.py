"""The router as an ASGI application: OpenAI's surface in front of two paths.

Composition root of one router replica: makes the session, monitors, policy, journal and reporter, and closes them in
the reverse order. Hot routes go straight to an `Exchange`; there is no framework between.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from hybridroute_api.facts import LLM_READY_REPLICAS, SLM_READY_REPLICAS
from hybridroute_api.serving import RouterArgs
from hybridroute_api.vocabulary import ErrorCode, Mode, PathName
from hybridroute_serve.auth.limits import RateLimits
from hybridroute_serve.journal import Reporter, ReporterSettings, Vitals
from hybridroute_serve.keeper.artifact_client import ArtifactSource
from hybridroute_serve.keeper.client import LivePolicySource
from hybridroute_serve.keeper.standing_client import StandingSource
from hybridroute_serve.router.admission import Admission, AdmissionError
from hybridroute_serve.router.audit import Auditor
from hybridroute_serve.router.backends import BackendMonitor, ExporterWatch
from hybridroute_serve.router.cascade import CascadeDesk
from hybridroute_serve.router.conversations import Conversations
from hybridroute_serve.router.exchange import OPERATIONS, Exchange
from hybridroute_serve.router.parts import RouterParts
from hybridroute_serve.router.path_client import PathClient
from hybridroute_serve.router.policy import PolicyHolder
from hybridroute_serve.router.recall import Recall
from hybridroute_serve.router.request_ids import make_request_id
from hybridroute_serve.router.slm_guard import SlmGuard
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.facts import PathHealth
from hybridroute_serve.routing.models import served_models
from hybridroute_serve.turning_session import TurningSession
from hybridroute_serve.wire.asgi import (
    Receive,
    Scope,
    Send,
    refuse_connection,
    send_answer,
    send_error,
    serve_lifespan,
)
from hybridroute_serve.wire.errors import method_not_allowed, rejection, starting, unsupported_endpoint

__all__ = ["RouterApp"]

_log = logging.getLogger(__name__)

_MODELS = "/v1/models"
_HEALTH = "/healthz"
_READY = "/readyz"
_SUPPORTED = (
    *(f"POST {path}" for path in OPERATIONS.values()),
    f"GET {_MODELS}",
    f"GET {_HEALTH}",
    f"GET {_READY}",
)
_HOT = {path: api for api, path in OPERATIONS.items()}
_IDLE_CONNECTION_SECONDS = 60.0
_UNASKED_HEADERS = ("accept", "accept-encoding", "user-agent")
"""What aiohttp adds to each request by itself, and no application of the route reads."""
_CLIENTS_SECONDS = 1.0
"""Between two looks at the clients file."""


class RouterApp:
    """One router replica. Call `start` through the lifespan protocol before the first request."""

    def __init__(
        self,
        args: RouterArgs,
        embedder: Embedder,
        *,
        replica: str,
        wall_clock: Callable[[], float] = time.time,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._args = args
        self._replica = replica
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        self._embedder = embedder
        self._policies = PolicyHolder(embedder, blind=secrets.token_bytes(32))
        # One thread, which starts with the first scores that take milliseconds: a replica has about a core.
        self._scoring = ThreadPoolExecutor(1, thread_name_prefix="scoring")
        self._slm_guard = SlmGuard()
        self._admission = Admission(
            RateLimits(), replicas=self._ready_routers, monotonic_clock=monotonic_clock
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await serve_lifespan(receive, send, start=self.start, stop=self.stop)
            return
        if scope["type"] == "websocket":
            await refuse_connection(send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        api = _HOT.get(path)
        if api is not None:
            if scope["method"] == "POST":
                await Exchange(self._parts, api, scope, receive, send).run()
            else:
                await send_error(send, method_not_allowed(scope["method"], path, "POST"))
            return
        await self._serve_cold(path, scope, send)

    async def _serve_cold(self, path: str, scope: Scope, send: Send) -> None:
        method = scope["method"]
        is_model = path.startswith(f"{_MODELS}/")
        cold = {_MODELS: self._models, _HEALTH: self._healthz, _READY: self._readyz}.get(path)
        cold = self._models if is_model else cold
        if cold is None:
            await send_error(send, unsupported_endpoint(method, path, _SUPPORTED))
        elif method not in ("GET", "HEAD"):
            await send_error(send, method_not_allowed(method, path, "GET"))
        else:
            await cold(scope, send)

    async def _models(self, scope: Scope, send: Send) -> None:
        active = self._policies.active
        if active is None:
            await send_error(send, starting())
            return
        try:
            client = self._admission.identify(scope, active)
        except AdmissionError as error:
            await send_error(send, error.answer)
            return
        local_only = client is not None and client.local_only
        mode = Mode.LOCAL_ONLY if local_only else active.document.mode
        names = served_models(self._args.route, mode, active.document.slm.adapters)
        models = {
            name: {"id": name, "object": "model", "created": 0, "owned_by": "hybridroute"} for name in names
        }
        wanted = scope["path"].partition(f"{_MODELS}/")[2]
        if not wanted:
            document: dict[str, Any] = {"object": "list", "data": list(models.values())}
        elif wanted in models:
            document = models[wanted]
        else:
            message = f"model {wanted[:64]!r} is not served; use one of {', '.join(names)}"
            await send_error(send, rejection(404, ErrorCode.MODEL_NOT_FOUND, message))
            return
        await send_answer(send, 200, msgspec.json.encode(document))

    async def _healthz(self, _: Scope, send: Send) -> None:
        await send_answer(send, 200, b'{"status":"ok"}')

    async def _readyz(self, _: Scope, send: Send) -> None:
        policy = self._policies.active is not None
        slm, llm = self._slm.ready, self._llm.ready
        ready = policy and (slm or llm)
        facts = {"status": "ready" if ready else "starting", "policy": policy, "slm": slm, "llm": llm}
        await send_answer(send, 200 if ready else 503, msgspec.json.encode(facts))

    async def start(self) -> None:
        """Open the session and begin the background work. Serving waits for neither keeper nor paths."""
        args = self._args
        token = await asyncio.to_thread(_read_token, args.token_file)
        self._session = _make_session()
        self._to_paths = TurningSession(_make_session, monotonic=self._monotonic_clock)
        recall = Recall()
        self._slm = BackendMonitor(args.slm_backend, on_down=recall.recall_all)
        self._llm = BackendMonitor(args.llm_backend)
        self._routers = BackendMonitor(args.router_backend)
        self._watches = self._make_watches()
        self._source = LivePolicySource(
            self._session, args.keeper_url, token, Path(args.journal_dir), self._policies.apply_policy
        )
        self._standing = StandingSource(self._session, args.keeper_url, token)
        self._artifact = ArtifactSource(
            self._session,
            args.keeper_url,
            token,
            directory=Path(args.journal_dir),
            standing=self._standing,
            apply=self._policies.apply_artifact,
        )
        settings = ReporterSettings(
            journal_dir=Path(args.journal_dir),
            keeper_url=args.keeper_url,
            token_file=Path(args.token_file),
            replica=self._replica,
            app="router",
        )
        self._reporter = Reporter(settings, self._observe_vitals)
        paths = PathClient(self._to_paths, {PathName.SLM: args.slm_url, PathName.LLM: args.llm_url}, token)
        self._auditor = Auditor(
            paths,
            self._reporter.journal,
            self._embedder,
            random=secrets.SystemRandom().random,
            wall_clock=self._wall_clock,
            monotonic_clock=self._monotonic_clock,
        )
        self._parts = RouterParts(
            route=args.route,
            replica=self._replica,
            policies=self._policies,
            health=self._health,
            standing=lambda: self._standing.standing,
            paths=paths,
            journal=self._reporter.journal,
            conversations=Conversations(self._source),
            admission=self._admission,
            cascade=CascadeDesk(replicas=self._ready_routers),
            auditor=self._auditor,
            slm_guard=self._slm_guard,
            slm_recall=recall,
            scoring=self._scoring,
            make_request_id=partial(make_request_id, self._wall_clock),
            wall_clock=self._wall_clock,
            monotonic_clock=self._monotonic_clock,
        )
        await self._reporter.start()
        await self._artifact.start()
        await self._source.start()
        await self._standing.start()
        await asyncio.gather(*(watch.start() for watch in self._watches))
        self._clients_task = asyncio.create_task(self._watch_clients())

    async def stop(self) -> None:
        """End the background work; records that are written reach the keeper first if it answers."""
        self._clients_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._clients_task
        self._scoring.shutdown(wait=False, cancel_futures=True)
        for watch in self._watches:
            await watch.stop()
        await self._standing.stop()
        await self._artifact.stop()
        await self._auditor.stop()
        await self._source.stop()
        await self._reporter.stop()
        await self._to_exporters.close()
        await self._to_paths.close()
        await self._session.close()

    async def _watch_clients(self) -> None:
        while True:
            await asyncio.sleep(_CLIENTS_SECONDS)
            try:
                await self._policies.refresh_clients()
            except Exception:  # noqa: BLE001 - what goes wrong once must not end the watch
                _log.exception("clients file could not be looked at")

    def _make_watches(self) -> list[ExporterWatch]:
        # By a connection for each look: an SLM that another has replaced is not looked at for ever.
        self._to_exporters = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))
        beside_slm, beside_llm = self._args.slm_backend_metrics_url, self._args.llm_backend_metrics_url
        behind = {beside_slm: [self._slm]}
        behind.setdefault(beside_llm, []).extend((self._llm, self._routers))
        return [ExporterWatch(self._to_exporters, url, monitors) for url, monitors in behind.items()]

    def _ready_routers(self) -> int:
        return self._routers.ready_replicas

    def _health(self) -> PathHealth:
        now = self._monotonic_clock()
        return PathHealth(
            slm_up=self._slm.ready,
            slm_failing=self._slm_guard.is_failing(now),
            slm_full=self._slm_guard.is_full(now),
            slm_restarting=self._slm.restarting,
            llm_up=self._llm.ready,
            llm_restarting=self._llm.restarting,
            slm_detail="no ready replica",
            llm_detail="no ready replica",
        )

    def _observe_vitals(self) -> Vitals:
        active = self._policies.active
        facts = {
            SLM_READY_REPLICAS: str(self._slm.ready_replicas),
            LLM_READY_REPLICAS: str(self._llm.ready_replicas),
        }
        if self._policies.artifact:
            facts["artifact"] = self._policies.artifact
        if self._policies.clients_problem is not None:
            facts["clients_problem"] = self._policies.clients_problem
        return Vitals(policy_version=active.document.version if active else "", facts=facts)


def _make_session() -> aiohttp.ClientSession:
    # No limit: a stream holds its connection, and admission is the paths' own.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_CONNECTION_SECONDS),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_UNASKED_HEADERS,
    )


def _read_token(path: str) -> str:
    return Path(path).read_text().strip()
