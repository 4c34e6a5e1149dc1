"""Who is told of an attempt: the journal of all of them, and the books of whoever pays for this one. Interfaces."""

from typing import Protocol

import msgspec

from hybridroute_api.records import AttemptReport, OpenAttempt, TokenUsage
from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.upstream.failures import AttemptFailure

__all__ = ["NOTHING_STAKED", "AttemptBooks", "AttemptEnd", "AttemptJournal", "Stake"]


class AttemptJournal(Protocol):
    """Where attempts are reported; `hybridroute_serve.journal.Journal` is one."""

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Note an attempt before it is sent."""

    def close_attempt(self, report: AttemptReport) -> None:
        """Note how it ended."""


class AttemptEnd(msgspec.Struct, frozen=True):
    """How an attempt ended, for those who pay for it and learn from it."""

    outcome: Outcome
    status: int | None
    usage: TokenUsage
    cost_nano_usd: int
    total_seconds: float
    streamed: bool
    content_sent: bool
    """The client has seen some of the answer."""
    failure: AttemptFailure | None
    """None: an answer has been sent, whole or cut short, or the client went away."""
    request_sent: bool
    """The request's head has gone out: the upstream may have worked on it, and may bill."""
    client_blocked: bool
    """It ended while the client was being written to, which says nothing of the upstream."""


class Stake(msgspec.Struct, frozen=True):
    """Money of one attempt: what is reserved for it, or what was settled."""

    nano_usd: int | None = None
    """None where nothing is budgeted."""
    lease_ids: tuple[str, ...] = ()
    """Dollar leases that it comes from."""


NOTHING_STAKED = Stake()


class AttemptBooks(Protocol):
    """Who pays for an attempt and learns from it. Called in order, on the attempt's path: no waiting, no raising."""

    def open(self) -> Stake:
        """Return what is reserved, to be journalled before the attempt is sent."""

    def saw_content(self) -> None:
        """Take the answer's first content."""

    def close(self, end: AttemptEnd) -> Stake:
        """Take its end; return what was settled, to be journalled with the report."""
