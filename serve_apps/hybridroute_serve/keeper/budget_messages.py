"""What llm-proxy replicas and the keeper say to each other about retry shares and dollars: paths and bodies.

Most bodies are the pure parts' own values (`retries.shares`, `budgets.ledger`); here is what is said besides.
"""

import msgspec

from hybridroute_serve.retries.shares import ShareGrant, ShareRequest
from hybridroute_serve.retries.sightings import Sighting, UpstreamPlace

__all__ = [
    "LEASES_PATH",
    "LEASE_CLOSE_PATH",
    "RESERVATIONS_PATH",
    "SETTLEMENTS_PATH",
    "SHARES_PATH",
    "SHARE_LEAVE_PATH",
    "DeniedAnswer",
    "LeaseClosing",
    "ReservedAnswer",
    "SettlementNote",
    "ShareAnswer",
    "ShareCall",
    "ShareLeaving",
]

SHARES_PATH = "/internal/shares"
SHARE_LEAVE_PATH = "/internal/shares/leave"
LEASES_PATH = "/internal/leases"
LEASE_CLOSE_PATH = "/internal/leases/close"
RESERVATIONS_PATH = "/internal/reservations"
SETTLEMENTS_PATH = "/internal/settlements"


class ShareCall(msgspec.Struct, frozen=True):
    """A replica asks for its next share, and says what it has seen of upstreams."""

    share: ShareRequest
    sightings: tuple[Sighting, ...]


class ShareAnswer(msgspec.Struct, frozen=True):
    """The share, and which upstreams the other replicas have found down."""

    grant: ShareGrant
    down: tuple[UpstreamPlace, ...]


class ShareLeaving(msgspec.Struct, frozen=True):
    """A replica has stopped for good and uses its share no more."""

    replica: str


class LeaseClosing(msgspec.Struct, frozen=True):
    """A replica gives a lease back; nothing is held of it any more."""

    lease_id: str
    settled_nano_usd: int
    """Everything that was settled in it since it began."""


class SettlementNote(msgspec.Struct, frozen=True):
    """How a reservation at the keeper ended."""

    attempt_id: str
    billed_nano_usd: int | None
    """None: unknown, so all of it; 0: it was never sent."""


class ReservedAnswer(msgspec.Struct, frozen=True, tag_field="outcome", tag="reserved"):
    """The claim is granted."""

    nano_usd: int


class DeniedAnswer(msgspec.Struct, frozen=True, tag_field="outcome", tag="denied"):
    """The claim is not granted; fields as in `budgets.ledger.Denied`."""

    account: str
    limit_nano_usd: int
    settled_nano_usd: int
    reserved_nano_usd: int
    asked_nano_usd: int
    resets_at: float
    past_unknown: bool
