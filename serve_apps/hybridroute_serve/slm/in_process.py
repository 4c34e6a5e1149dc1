"""Sends attempts to an engine that is an ASGI application in this process."""

from collections.abc import Callable

from hybridroute_serve.engines.in_process import AppAnswer, post_to_app
from hybridroute_serve.upstream.target import AttemptTarget
from hybridroute_serve.wire.asgi import ASGIApp

__all__ = ["InProcessTransport"]

_BODY_HEADERS = frozenset({b"content-type", b"content-length"})


class InProcessTransport:
    """Sends attempts to one application, which need not be there yet."""

    def __init__(self, app: Callable[[], ASGIApp | None]) -> None:
        self._app = app

    async def send(
        self,
        target: AttemptTarget,
        operation: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        on_sent: Callable[[], None],
    ) -> AppAnswer:
        """Call the application and return its answer once its head is there. Raises OSError when it fails before."""
        app = self._app()
        if app is None:
            raise ConnectionError("the engine is not running")
        passed = [pair for pair in headers if pair[0] not in _BODY_HEADERS]
        passed += [(name.lower().encode(), value.encode()) for name, value in target.headers.items()]
        on_sent()
        return await post_to_app(app, f"/v1{operation}", body, passed)

    def mask_credential(self, target: AttemptTarget, text: bytes) -> bytes:
        """Return the text: no credential was sent."""
        del target
        return text
