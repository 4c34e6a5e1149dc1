"""The router as a Ray Serve application."""

from ray.serve import Application

from hybridroute_api.serving import RouterArgs
from hybridroute_serve.apps.replica import bind_application, replica_name
from hybridroute_serve.router.app import RouterApp
from hybridroute_serve.routing.embedding import load_static_embedder
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["build"]


def build(args: RouterArgs) -> Application:
    """Bind the application; Serve calls this from the config's `import_path`."""
    return bind_application("router", args, _make)


async def _make(args: RouterArgs) -> ASGIApp:
    return RouterApp(args, load_static_embedder(), replica=replica_name("router"))
