"""Shares a replica's busy time among the requests that keep it busy. Pure; times are arguments.

A(t) is the integral of dt / inflight(t) over the time in which something is in flight. A request's share is the
growth of A while it was in flight, so the shares of all requests add up to the busy time, however they overlap.
"""

from dataclasses import dataclass

__all__ = ["BusyShare", "BusyTicket"]


@dataclass(frozen=True, slots=True)
class BusyTicket:
    """A request in flight: A at its start."""

    entered_at_share: float


class BusyShare:
    """The account of one replica. Times are seconds of one monotonic clock."""

    def __init__(self, now: float) -> None:
        self._settled_at = now
        self._share_seconds = 0.0
        self._busy_seconds = 0.0
        self.inflight = 0
        """Requests in flight now."""

    def enter(self, now: float) -> BusyTicket:
        """Begin a request."""
        self._settle(now)
        self.inflight += 1
        return BusyTicket(self._share_seconds)

    def leave(self, ticket: BusyTicket, now: float) -> float:
        """End a request, once; return its share in seconds."""
        self._settle(now)
        self.inflight -= 1
        return self._share_seconds - ticket.entered_at_share

    def busy_seconds(self, now: float) -> float:
        """Return how long at least one request has been in flight, from the start of the account until now."""
        self._settle(now)
        return self._busy_seconds

    def _settle(self, now: float) -> None:
        """Account for the time since the last change."""
        elapsed_seconds = max(0.0, now - self._settled_at)
        self._settled_at = max(now, self._settled_at)
        if self.inflight:
            self._busy_seconds += elapsed_seconds
            self._share_seconds += elapsed_seconds / self.inflight
