"""The keeper as a Ray Serve application."""

from ray.serve import Application
from starlette.applications import Starlette

from hybridroute_api.serving import KeeperArgs
from hybridroute_serve.apps.replica import bind_application
from hybridroute_serve.keeper.app import build_keeper_app

__all__ = ["build"]


def build(args: KeeperArgs) -> Application:
    """Bind the application; Serve calls this from the config's `import_path`."""
    return bind_application("keeper", args, _make, check=_check)


async def _make(args: KeeperArgs) -> Starlette:
    return build_keeper_app(args)


def _check(app: Starlette) -> None:
    app.state.keeper.check_health()
