"""A whole gateway in process: router, llm-proxy replica and keeper on real ports; SLM and provider are scripted."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from hybridroute_api.serving import LivePolicy, LlmProxyArgs, RouterArgs
from hybridroute_api.vocabulary import InternalHeader, PathName
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.upstream.replica import LlmProxyReplica
from support.eventually import eventually
from support.keepers import METRICS_TOKEN, TOKEN, a_keeper_app, write_live
from support.path_apps import PathApps, running_path_apps
from support.serving import running

__all__ = ["Answered", "GatewayBench", "running_gateway"]

_BACKENDS = ("http-slm", "http-llm-proxy", "http-router")


@dataclass
class Answered:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    text: str


@dataclass
class GatewayBench:
    """A running gateway and ways to look at it."""

    directory: Path
    """Everything that it writes is in here."""
    url: str
    keeper_url: str
    slm: PathApps
    session: aiohttp.ClientSession

    async def chat(self, text: str, key: str | None = None, **fields: Any) -> Answered:
        body = {"model": "hybridroute", "messages": [{"role": "user", "content": text}], "max_tokens": 16}
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return await self._read(
            self.session.post(f"{self.url}/v1/chat/completions", json=body | fields, headers=headers)
        )

    async def keeper(self, path: str) -> Answered:
        headers = {InternalHeader.TOKEN.value: TOKEN}
        if path == "/metrics":
            headers = {"authorization": f"Bearer {METRICS_TOKEN}"}
        return await self._read(self.session.get(self.keeper_url + path, headers=headers))

    async def explain(self, answer: Answered) -> str:
        """The keeper's line on an answer."""
        path = f"/records/{answer.headers['x-hybridroute-request-id']}"
        lines: list[str] = []

        async def recorded() -> bool:
            found = await self.keeper(path)
            lines.append(found.text)
            return found.status == 200 and "not ended yet" not in found.text

        await eventually(recorded, 15.0)
        return lines[-1]

    async def _read(self, asking: Any) -> Answered:
        async with asking as answer:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            return Answered(answer.status, headers, await answer.text())


@asynccontextmanager
async def running_gateway(
    embedder: Embedder, directory: Path, live: LivePolicy, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[GatewayBench]:
    """Run one; it serves when this yields. `clock`: the keeper's, by which windows turn."""
    write_live(directory, live)
    async with AsyncExitStack() as stack:
        exporter = await stack.enter_async_context(_running_exporter())
        slm = await stack.enter_async_context(running_path_apps())
        keeper = a_keeper_app(
            directory,
            clock,  # type: ignore[arg-type]
            sleep=asyncio.sleep,
            embedding=embedder.digest,
        )
        keeper_url = await stack.enter_async_context(running(keeper))
        common = {
            "route": live.route,
            "token_file": str(directory / "token"),
            "keeper_url": keeper_url,
            "journal_dir": str(directory / "journal"),
        }
        proxy = await LlmProxyReplica(LlmProxyArgs(**common), replica="llm-proxy-1").build_app()
        proxy_url = await stack.enter_async_context(running(proxy))
        args = RouterArgs(
            **common,
            slm_url=slm.base_urls[PathName.SLM],
            llm_url=proxy_url,
            slm_backend_metrics_url=exporter,
            slm_backend="http-slm",
            llm_backend_metrics_url=exporter,
            llm_backend="http-llm-proxy",
            router_backend="http-router",
        )
        url = await stack.enter_async_context(running(RouterApp(args, embedder, replica="router-1")))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        bench = GatewayBench(directory, url, keeper_url, slm, session)

        async def serves() -> bool:
            async with session.get(f"{url}/readyz") as answer:
                return answer.status == 200

        await eventually(serves, 15.0)
        yield bench


@asynccontextmanager
async def _running_exporter() -> AsyncIterator[str]:
    async def metrics(_: web.Request) -> web.Response:
        lines = (f'haproxy_backend_active_servers{{proxy="{name}"}} 1\n' for name in _BACKENDS)
        return web.Response(text="".join(lines))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    finally:
        await runner.cleanup()
