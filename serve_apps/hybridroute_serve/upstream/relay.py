"""Makes attempts at upstreams, one at a time as it is told, and counts those under way.

It does not choose upstreams and never tries again: that is the caller's plan. Used by the llm-proxy for providers
and by the slm for the engine's server on loopback. What an attempt does is `attempt.Attempt`'s.
"""

from collections.abc import Callable

from hybridroute_serve.upstream.attempt import (
    Attempt,
    RelayParts,
    RelayRequest,
)
from hybridroute_serve.upstream.books import AttemptBooks, AttemptJournal
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.upstream.target import AttemptTarget
from hybridroute_serve.upstream.transport import AttemptTransport
from hybridroute_serve.wire.asgi import Send

__all__ = ["AttemptJournal", "Relay", "RelayRequest"]


class Relay:
    """Makes attempts. One a replica."""

    def __init__(
        self,
        client: AttemptTransport,
        journal: AttemptJournal,
        *,
        route: str,
        wall_clock: Callable[[], float],
        monotonic_clock: Callable[[], float],
    ) -> None:
        self._parts = RelayParts(client, journal, route, wall_clock, monotonic_clock)
        self.ongoing = 0
        """Attempts that have not ended."""

    async def attempt(
        self,
        request: RelayRequest,
        target: AttemptTarget,
        send: Send,
        *,
        number: int,
        seconds: float | None = None,
        observe_busy_seconds: Callable[[], float] | None = None,
        books: AttemptBooks | None = None,
    ) -> AttemptFailure | None:
        """Make attempt `number` of a request. None: an answer has been sent, whole or cut short.

        `seconds`: how long it may take, where that is less than the target's own total. `observe_busy_seconds` is
        asked once, when the attempt has ended, for its share of the replica's busy time; `books` are told of its
        begin, content and end.
        """
        attempt = Attempt(
            self._parts,
            request,
            target,
            send,
            number=number,
            seconds=seconds,
            observe_busy_seconds=observe_busy_seconds,
            books=books,
        )
        self.ongoing += 1
        try:
            return await attempt.run()
        finally:
            self.ongoing -= 1
