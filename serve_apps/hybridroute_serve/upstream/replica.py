"""Composition root of one llm-proxy replica: what lives beside the ASGI application, and in which order it starts."""

import asyncio
import random
import time
from pathlib import Path

import aiohttp

from hybridroute_api.serving import LivePolicy, LlmProxyArgs
from hybridroute_serve.journal import Reporter, ReporterSettings, Vitals
from hybridroute_serve.keeper.budget_client import DollarAccounts, ShareRenewer
from hybridroute_serve.keeper.client import LivePolicySource
from hybridroute_serve.upstream.client import UpstreamClient
from hybridroute_serve.upstream.guard import UpstreamGuard
from hybridroute_serve.upstream.llm_proxy import LlmProxyParts, build_llm_proxy_app
from hybridroute_serve.upstream.pursuit import PursuitParts
from hybridroute_serve.upstream.relay import Relay
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["LlmProxyReplica"]


class LlmProxyReplica:
    """Owns what lives as long as the replica."""

    def __init__(self, args: LlmProxyArgs, *, replica: str) -> None:
        self._args = args
        self._replica = replica
        self._policy: LivePolicy | None = None
        self._client = UpstreamClient()
        self._guard = UpstreamGuard(monotonic_clock=time.monotonic, random=random.random)
        self._reporter = Reporter(
            ReporterSettings(
                journal_dir=Path(args.journal_dir),
                keeper_url=args.keeper_url,
                token_file=Path(args.token_file),
                replica=replica,
                app="llm-proxy",
            ),
            self._observe_vitals,
        )

    async def build_app(self) -> ASGIApp:
        """Make the application; its lifespan starts and stops the rest."""
        token = (await asyncio.to_thread(Path(self._args.token_file).read_text)).strip()
        keeper_url = self._args.keeper_url
        session = self._keeper_session = aiohttp.ClientSession()
        self._accounts = DollarAccounts(session, keeper_url, token, self._replica)
        self._share = ShareRenewer(
            session, keeper_url, token, self._guard.bucket, self._replica, news=self._guard
        )
        self._source = LivePolicySource(session, keeper_url, token, Path(self._args.journal_dir), self._apply)
        self._relay = Relay(
            self._client,
            self._reporter.journal,
            route=self._args.route,
            wall_clock=time.time,
            monotonic_clock=time.monotonic,
        )
        return build_llm_proxy_app(
            LlmProxyParts(
                token=token,
                pursuit=PursuitParts(
                    relay=self._relay,
                    guard=self._guard,
                    accounts=self._accounts,
                    wall_clock=time.time,
                    sleep=asyncio.sleep,
                ),
                policy=lambda: self._policy,
                start=self._start,
                stop=self._stop,
            )
        )

    async def _start(self) -> None:
        await self._client.start()
        await self._reporter.start()
        await self._source.start()
        await self._accounts.start()
        await self._share.start()

    async def _stop(self) -> None:
        await self._source.stop()
        # What was not spent goes back while the journal still tells the keeper what was.
        await self._accounts.stop()
        await self._share.stop()
        await self._keeper_session.close()
        await self._reporter.stop()
        await self._client.stop()

    async def _apply(self, document: LivePolicy) -> None:
        # First the money: a request must not see a budget that nobody keeps yet.
        await self._accounts.follow(document)
        self._guard.follow(document.llm)
        self._policy = document

    def _observe_vitals(self) -> Vitals:
        version = self._policy.version if self._policy else ""
        return Vitals(ongoing=self._relay.ongoing, policy_version=version, facts=self._guard.facts())
