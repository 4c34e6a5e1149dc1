"""Router and llm-proxy with everything off that this product adds to passing a request on: what the features cost.

The same route, the same code for reading, deciding, sending and streaming; but nothing is journalled, everybody is let
in, and the llm-proxy makes the one attempt at the first upstream, with no retry budget, breaker, ledger or accounts.
Never a product: `benchmarks.gateway` deploys it by writing `import_path` into a run's `serve.json`.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp
from ray.serve import Application

from hybridroute_api.records import AttemptReport, DecisionRecord, OpenAttempt, OpenRequest
from hybridroute_api.serving import LivePolicy, LlmProxyArgs, RouterArgs
from hybridroute_api.vocabulary import Api
from hybridroute_serve.apps.replica import bind_application, replica_name
from hybridroute_serve.auth.clients import Client
from hybridroute_serve.keeper.client import LivePolicySource
from hybridroute_serve.router.admission import Admission
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.router.policy import ActivePolicy
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.upstream.client import UpstreamClient
from hybridroute_serve.upstream.door import PathDoor, read_relay_request
from hybridroute_serve.upstream.relay import Relay
from hybridroute_serve.upstream.target import AttemptTarget, provider_target
from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send, send_answer

__all__ = ["IMPORT_PATHS", "build_llm_proxy", "build_router"]

IMPORT_PATHS: Mapping[str, str] = {
    "router": "benchmarks.bare:build_router",
    "llm-proxy": "benchmarks.bare:build_llm_proxy",
}
"""Application → what to deploy in its place; the repository's root must be on `PYTHONPATH`."""


class SilentJournal:
    """Notes nothing."""

    def open_request(self, request: OpenRequest) -> None:
        """Do nothing."""

    def close_request(self, record: DecisionRecord) -> None:
        """Do nothing."""

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Do nothing."""

    def close_attempt(self, report: AttemptReport) -> None:
        """Do nothing."""


class OpenAdmission(Admission):
    """Lets everybody in, as nobody in particular."""

    def identify(self, _scope: Scope, _active: ActivePolicy) -> Client | None:
        """Return no client, whatever key came."""
        return None


class BareRouter(RouterApp):
    """A router that neither asks who is there nor writes anything down."""

    async def start(self) -> None:
        """Start as a router does."""
        await super().start()
        self._parts = replace(
            self._parts,
            journal=SilentJournal(),
            admission=OpenAdmission(None, replicas=lambda: 1, monotonic_clock=time.monotonic),
        )


class BareLlmProxy:
    """Sends each request once, to the first upstream."""

    def __init__(self, args: LlmProxyArgs) -> None:
        self._args = args
        self._client = UpstreamClient()
        self._policy: LivePolicy | None = None
        self._targets: dict[Api, AttemptTarget] = {}

    async def build_app(self) -> ASGIApp:
        """Make the application."""
        token = (await asyncio.to_thread(Path(self._args.token_file).read_text)).strip()
        self._session = aiohttp.ClientSession()
        self._source = LivePolicySource(
            self._session, self._args.keeper_url, token, Path(self._args.journal_dir), self._apply
        )
        self._relay = Relay(
            self._client,
            SilentJournal(),
            route=self._args.route,
            wall_clock=time.time,
            monotonic_clock=time.monotonic,
        )
        return PathDoor(token, self._serve, start=self._start, stop=self._stop)

    async def _serve(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        policy = self._policy
        assert policy is not None, "asked before the policy had come"
        request = await read_relay_request(path, scope, receive, policy.max_body_bytes)
        target = self._targets[request.parsed.api]
        failure = await self._relay.attempt(request, target, send, number=1)
        if failure is not None:
            await send_answer(send, failure.answer.status, failure.answer.body(), failure.headers())

    async def _start(self) -> None:
        await self._client.start()
        await self._source.start()

    async def _stop(self) -> None:
        await self._source.stop()
        await self._session.close()
        await self._client.stop()

    async def _apply(self, document: LivePolicy) -> None:
        self._policy = document
        self._targets = {api: provider_target(document.llm.primary, api) for api in Api}


def build_router(args: RouterArgs) -> Application:
    """Bind the application."""
    return bind_application("router", args, _make_router)


def build_llm_proxy(args: LlmProxyArgs) -> Application:
    """Bind the application."""
    return bind_application("llm-proxy", args, _make_llm_proxy)


async def _make_router(args: RouterArgs) -> ASGIApp:
    return BareRouter(args, load_static_embedder(), replica=replica_name("router"))


async def _make_llm_proxy(args: LlmProxyArgs) -> ASGIApp:
    return await BareLlmProxy(args).build_app()
