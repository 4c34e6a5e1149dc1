"""The SLM as a Ray Serve application."""

from ray.serve import Application

from hybridroute_api.serving import SlmArgs
from hybridroute_serve.apps.replica import bind_application, replica_name
from hybridroute_serve.slm.replica import SlmReplica
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["build"]


def build(args: SlmArgs) -> Application:
    """Bind the application; Serve calls this from the config's `import_path`."""
    return bind_application("slm", args, _make)


async def _make(args: SlmArgs) -> ASGIApp:
    return await SlmReplica(args, replica=replica_name("slm")).build_app()
