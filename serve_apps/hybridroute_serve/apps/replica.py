"""How a plain ASGI application becomes a Ray Serve application; the modules beside this one say which.

The application is made in the replica: `serve.ingress()` without an application binds late, and Serve then calls
`__serve_build_asgi_app__` in the replica's own loop and runs the application's lifespan there.
"""

import gc
import logging
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel
from ray import serve
from ray.serve import Application
from ray.serve._private import http_util

from hybridroute_serve.apps.lane import open_lane
from hybridroute_serve.wire.asgi import ASGIApp
from hybridroute_serve.wire.http_protocol import use_http_protocol

__all__ = ["bind_application", "collect_seldom", "replica_name"]

_YOUNG_OBJECTS = 10_000
"""New containers between two searches; 700 by default, which a few requests at once come to."""

ArgsT = TypeVar("ArgsT", bound=BaseModel)
AppT = TypeVar("AppT", bound=ASGIApp)


def bind_application(
    name: str,
    args: ArgsT,
    make: Callable[[ArgsT], Awaitable[AppT]],
    *,
    check: Callable[[AppT], None] = lambda _: None,
) -> Application:
    """Bind an application of one deployment, both called `name`. `make` runs once in each replica.

    `check` raises when Serve is to replace the replica; it is asked every few seconds.
    """

    class Replica:
        def __init__(self, replica_args: ArgsT) -> None:
            self._args = replica_args
            self._app: AppT | None = None

        async def __serve_build_asgi_app__(self) -> ASGIApp:
            _configure_logging()
            _ignore_steering_headers()
            use_http_protocol()
            collect_seldom()
            self._app = await make(self._args)
            open_lane(self._app)
            return self._app

        def check_health(self) -> None:
            if self._app is not None:
                check(self._app)

    bound: Application = serve.deployment(name=name)(serve.ingress()(Replica)).bind(args)
    return bound


def replica_name(app: str) -> str:
    """Name this incarnation of the process: application, host, process and start time."""
    return f"{app}-{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}"


def collect_seldom() -> None:
    """Look for cyclic garbage less often: requests leave none, and a search costs as much as there is in flight.

    Serve freezes what a replica starts with.
    """
    gc.set_threshold(_YOUNG_OBJECTS)


def _ignore_steering_headers() -> None:
    # Serve obeys two headers of any client before the application is asked: a deadline of its own that answers in
    # plain text, and one that switches cancellation off. There is no setting; no header has the empty name.
    http_util.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER = ""
    http_util.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER = ""


def _configure_logging() -> None:
    # Ray collects a replica's stderr in its session directory. `sys.stderr` is Serve's: what is written there
    # becomes INFO of a logger that Serve holds back by the thousand lines, or drops.
    logger = logging.getLogger("hybridroute_serve")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.__stderr__)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(logging.INFO)
