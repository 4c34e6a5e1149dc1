"""What llm-proxy replicas and the keeper say to each other about retry shares and dollars: paths and bodies.

Most bodies are the pure parts' own values (`retries.shares`, `budgets.ledger`); here is what is said besides.
"""

import msgspec

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
    "ShareLeaving",
]

SHARES_PATH = "/internal/shares"
SHARE_LEAVE_PATH = "/internal/shares/leave"
LEASES_PATH = "/internal/leases"
LEASE_CLOSE_PATH = "/internal/leases/close"
RESERVATIONS_PATH = "/internal/reservations"
SETTLEMENTS_PATH = "/internal/settlements"


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
