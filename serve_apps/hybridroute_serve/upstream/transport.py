"""What an attempt needs of the way to its upstream: an HTTP client, or an application in the same process."""

from collections.abc import Callable
from typing import Protocol

from hybridroute_serve.upstream.target import AttemptTarget

__all__ = ["AttemptTransport", "Body", "Response"]


class Body(Protocol):
    """The body of an answer, as it comes."""

    async def readany(self) -> bytes:
        """Return what has come since the last call, or wait for more; empty at the end."""


class Response(Protocol):
    """An answer whose head is there."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers as they came."""

    @property
    def content(self) -> Body:
        """The body. Reading raises `aiohttp.ClientError` or OSError when it breaks off."""

    def close(self) -> None:
        """Give the answer up; its sender learns of it at once. No effect after its end."""


class AttemptTransport(Protocol):
    """Sends attempts."""

    async def send(
        self,
        target: AttemptTarget,
        operation: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        on_sent: Callable[[], None],
    ) -> Response:
        """Send a POST and return the answer once its head is there; the caller closes it."""

    def mask_credential(self, target: AttemptTarget, text: bytes) -> bytes:
        """Hide the key that was sent to the target in what came back."""
