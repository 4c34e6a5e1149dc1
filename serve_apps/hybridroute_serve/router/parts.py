"""What every request of one router replica shares."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from hybridroute_api.records import DecisionRecord, OpenRequest
from hybridroute_api.standing import DriftStanding
from hybridroute_serve.router.admission import Admission
from hybridroute_serve.router.audit import Auditor
from hybridroute_serve.router.cascade import CascadeDesk
from hybridroute_serve.router.conversations import Conversations
from hybridroute_serve.router.path_client import PathClient
from hybridroute_serve.router.policy import PolicyHolder
from hybridroute_serve.router.recall import Recall
from hybridroute_serve.router.slm_guard import SlmGuard
from hybridroute_serve.routing.facts import PathHealth

__all__ = ["RequestJournal", "RouterParts"]


class RequestJournal(Protocol):
    """Where opens and records go; both return at once."""

    def open_request(self, request: OpenRequest) -> None:
        """Note a request that is about to be handed on."""
        ...

    def close_request(self, record: DecisionRecord) -> None:
        """Note how a request ended."""
        ...


@dataclass(frozen=True, slots=True)
class RouterParts:
    """What every request of one replica shares."""

    route: str
    replica: str
    policies: PolicyHolder
    health: Callable[[], PathHealth]
    standing: Callable[[], DriftStanding | None]
    """What the keeper says of drift; None before it has said anything."""
    paths: PathClient
    journal: RequestJournal
    conversations: Conversations
    admission: Admission
    cascade: CascadeDesk
    auditor: Auditor
    slm_guard: SlmGuard
    slm_recall: Recall
    scoring: Executor
    """Where scores are computed that take milliseconds, one request's after the other's."""
    make_request_id: Callable[[], str]
    wall_clock: Callable[[], float]
    """Unix seconds."""
    monotonic_clock: Callable[[], float]
