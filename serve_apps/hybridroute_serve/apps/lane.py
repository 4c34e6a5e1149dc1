"""Requests go to the application past what Ray Serve does for each of them.

Serve wraps a replica's application: for each request three tasks, two names, a context, a log line that is not written
and metrics that nobody reads, 125 µs (decision 20). Serve's own hook for middlewares puts `LaneMiddleware` around that
wrapper, which answers in its place, and keeps what is needed of it: the count of requests under way, by which Serve
scales and drains a replica, and the cancellation of a request whose client has left. What is not understood of Serve
is left to Serve.
"""

import asyncio
import logging
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from ray.serve._private.common import RequestMetadata, RequestProtocol
from starlette.middleware import Middleware

from hybridroute_serve.wire.asgi import ASGIApp, Receive, Scope, Send
from hybridroute_serve.wire.http_protocol import LEAVING, Leaving

__all__ = ["LaneMiddleware", "make_middlewares", "open_lane"]

_LOG = logging.getLogger(__name__)

_SERVES_OWN = frozenset({"/-/healthz", "/-/routes"})
_REQUEST = RequestMetadata(
    request_id="", internal_request_id="", _request_protocol=RequestProtocol.HTTP, is_direct_ingress=True
)
"""What Serve counts by is the same for each."""


class _Replica(Protocol):
    """What is used of Serve's replica."""

    _route_prefix: str | None

    def _start_request(self, request_metadata: RequestMetadata) -> AbstractAsyncContextManager[None]:
        """Wait for one of `max_ongoing_requests` places, and count the request while it is under way."""


class _Lane:
    """Where the requests of this process go: a replica has a process to itself."""

    app: ASGIApp | None = None
    loop: asyncio.AbstractEventLoop | None = None


def open_lane(app: ASGIApp) -> None:
    """Send requests to this application from now on. Call it in the loop that serves them."""
    _Lane.app, _Lane.loop = app, asyncio.get_running_loop()


def make_middlewares() -> list[Middleware]:
    """Serve calls this by `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`, in each replica and proxy."""
    return [Middleware(LaneMiddleware)]


class LaneMiddleware:
    """Around the application that Serve would call."""

    def __init__(self, app: ASGIApp) -> None:
        self._serve = app
        self._replica = _find_replica(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or have Serve do it."""
        leaving: Leaving | None = scope.get("extensions", {}).get(LEAVING)
        app, replica = _Lane.app, self._replica
        if app is None or replica is None or leaving is None or not _enter(scope, replica):
            await self._serve(scope, receive, send)
            return
        leaving.task = asyncio.current_task()
        try:
            async with replica._start_request(_REQUEST):
                await app(scope, receive, send)
        except asyncio.CancelledError:
            # Its client has left, or the server stops.
            return
        except Exception:  # noqa: BLE001 - a defect of ours must not end what runs beside it
            # Not raised: the server would close a connection on which the next request may be under way by now.
            _LOG.exception("request failed path=%r", scope["path"])


def _enter(scope: Scope, replica: _Replica) -> bool:
    """Tell the application where it is mounted, as Serve does; False for what Serve answers itself."""
    root, prefix = scope["root_path"], replica._route_prefix or "/"
    path = scope["path"][len(root) :]
    if path in _SERVES_OWN or asyncio.get_running_loop() is not _Lane.loop:
        return False
    if prefix != "/":
        if not path.startswith(prefix):
            return False
        scope["root_path"] = root + prefix
    return True


def _find_replica(app: Any) -> _Replica | None:
    """Return the replica whose method Serve's own middleware calls; None where there is none, as in a proxy."""
    replica: _Replica | None = getattr(getattr(app, "_app", None), "__self__", None)
    known = hasattr(replica, "_start_request") and hasattr(replica, "_route_prefix")
    return replica if known else None
