"""Router and llm-proxy as they are, but each request through what Ray Serve does for it: what the lane saves.

Never a product: `benchmarks.gateway` deploys it by writing `import_path` into a run's `serve.json`.
"""

from collections.abc import Mapping
from typing import Final

from ray.serve import Application

from hybridroute_api.serving import LlmProxyArgs, RouterArgs
from hybridroute_serve.apps import lane, replica
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.upstream.replica import LlmProxyReplica
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["IMPORT_PATHS", "build_llm_proxy", "build_router"]

IMPORT_PATHS: Final[Mapping[str, str]] = {
    "router": "benchmarks.wrapped:build_router",
    "llm-proxy": "benchmarks.wrapped:build_llm_proxy",
}
"""Application → what to deploy in its place; the repository's root must be on `PYTHONPATH`."""


def build_router(args: RouterArgs) -> Application:
    """Bind the application."""
    return replica.bind_application("router", args, _make_router)


def build_llm_proxy(args: LlmProxyArgs) -> Application:
    """Bind the application."""
    return replica.bind_application("llm-proxy", args, _make_llm_proxy)


async def _make_router(args: RouterArgs) -> ASGIApp:
    _close_lane()
    return RouterApp(args, load_static_embedder(), replica=replica.replica_name("router"))


async def _make_llm_proxy(args: LlmProxyArgs) -> ASGIApp:
    _close_lane()
    return await LlmProxyReplica(args, replica=replica.replica_name("llm-proxy")).build_app()


def _close_lane() -> None:
    # In the replica's own process: no request enters.
    lane._enter = lambda _scope, _replica: False
