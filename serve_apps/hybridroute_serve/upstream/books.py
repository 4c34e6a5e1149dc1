"""Who is told of an attempt: the journal of all of them, and the books of whoever pays for this one. Interfaces."""

from dataclasses import dataclass
from typing import Protocol

from hybridroute_api.records import AttemptReport, OpenAttempt
from hybridroute_serve.upstream.failures import AttemptFailure

__all__ = ["AttemptBooks", "AttemptEnd", "AttemptJournal"]


class AttemptJournal(Protocol):
    """Where attempts are reported; `hybridroute_serve.journal.Journal` is one."""

    def open_attempt(self, attempt: OpenAttempt) -> None:
        """Note an attempt before it is sent."""

    def close_attempt(self, report: AttemptReport) -> None:
        """Note how it ended."""


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How an attempt ended, beyond what is reported."""

    report: AttemptReport
    failure: AttemptFailure | None
    """None: an answer has been sent, whole or cut short, or the client went away."""
    request_sent: bool
    """The request's head has gone out: the upstream may have worked on it, and may bill."""
    client_blocked: bool
    """It ended while the client was being written to, which says nothing of the upstream."""


class AttemptBooks(Protocol):
    """Who pays for an attempt and learns from it. Called in order, on the attempt's path: no waiting, no raising."""

    def open(self, attempt: OpenAttempt) -> OpenAttempt:
        """Complete what is journalled before it is sent."""

    def saw_content(self) -> None:
        """Take the answer's first content."""

    def close(self, end: AttemptEnd) -> AttemptReport:
        """Take its end; return the report to journal."""
