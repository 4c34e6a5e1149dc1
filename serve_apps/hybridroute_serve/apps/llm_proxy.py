"""The llm-proxy as a Ray Serve application."""

from ray.serve import Application

from hybridroute_api.serving import LlmProxyArgs
from hybridroute_serve.apps.replica import bind_application, replica_name
from hybridroute_serve.upstream.replica import LlmProxyReplica
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["build"]


def build(args: LlmProxyArgs) -> Application:
    """Bind the application; Serve calls this from the config's `import_path`."""
    return bind_application("llm-proxy", args, _make)


async def _make(args: LlmProxyArgs) -> ASGIApp:
    return await LlmProxyReplica(args, replica=replica_name("llm-proxy")).build_app()
