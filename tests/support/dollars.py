"""Dollar accounts that do as they are told, and insist that each reservation ends once."""

import asyncio
from dataclasses import dataclass, field

from hybridroute_serve.keeper.budget_client import Denied, DeniedReason, Reservation

__all__ = ["ScriptedAccounts"]


@dataclass
class ScriptedAccounts:
    """`upstream.dollars.AttemptAccounts`; not budgeted until a test gives it a balance."""

    balance_nano_usd: int | None = None
    resets_at: float | None = None
    reason: DeniedReason = DeniedReason.EXHAUSTED
    held: asyncio.Event | None = None
    """Reserving waits for it, if it is there."""
    invalid: int = 0
    """So many of the next reservations run out before they are used."""
    reserved: list[Reservation] = field(default_factory=list)
    clients: list[str | None] = field(default_factory=list)
    settled: dict[str, int | None] = field(default_factory=dict)
    """By attempt: what was said to be billed."""
    released: list[str] = field(default_factory=list)

    def is_budgeted(self, client: str | None) -> bool:
        return self.balance_nano_usd is not None

    async def reserve(self, attempt_id: str, client: str | None, nano_usd: int) -> Reservation | Denied:
        assert self.balance_nano_usd is not None, "reserved where nothing is budgeted"
        self.clients.append(client)
        if self.held is not None:
            await self.held.wait()
        if nano_usd > self.balance_nano_usd:
            return Denied("route", nano_usd, self.reason, self.resets_at)
        self.balance_nano_usd -= nano_usd
        reservation = Reservation(attempt_id, nano_usd, float("inf"), (f"lease-of-{attempt_id}",))
        self.reserved.append(reservation)
        return reservation

    def is_valid(self, reservation: Reservation) -> bool:
        if self.invalid:
            self.invalid -= 1
            return False
        return True

    def settle(self, reservation: Reservation, billed_nano_usd: int | None) -> int:
        self._end(reservation)
        self.settled[reservation.attempt_id] = billed_nano_usd
        counted = reservation.nano_usd if billed_nano_usd is None else billed_nano_usd
        self._give_back(reservation.nano_usd - counted)
        return counted

    def release(self, reservation: Reservation) -> None:
        self._end(reservation)
        self.released.append(reservation.attempt_id)
        self._give_back(reservation.nano_usd)

    @property
    def all_ended(self) -> bool:
        return len(self.reserved) == len(self.settled) + len(self.released)

    def _end(self, reservation: Reservation) -> None:
        assert reservation in self.reserved, "never reserved"
        assert reservation.attempt_id not in self.settled, "settled before"
        assert reservation.attempt_id not in self.released, "released before"

    def _give_back(self, nano_usd: int) -> None:
        assert self.balance_nano_usd is not None
        self.balance_nano_usd += nano_usd
