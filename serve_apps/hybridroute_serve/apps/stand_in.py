"""The local stand-in for a remote LLM as a Ray Serve application."""

from ray.serve import Application

from hybridroute_api.serving import StandInArgs
from hybridroute_serve.apps.replica import bind_application
from hybridroute_serve.standin.app import build_stand_in_app
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["build"]


def build(args: StandInArgs) -> Application:
    """Bind the application; Serve calls this from the config's `import_path`."""
    return bind_application("stand-in", args, _make)


async def _make(args: StandInArgs) -> ASGIApp:
    return build_stand_in_app(args)
