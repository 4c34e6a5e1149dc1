"""The keeper's endpoints for llm-proxy replicas: retry shares, dollar leases, single reservations.

Bodies are in `budget_messages`. Nothing is answered before it is stored, and nothing by a keeper that was replaced.
"""

from dataclasses import dataclass
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hybridroute_api.vocabulary import ErrorCode
from hybridroute_serve.budgets.ledger import Claim, Denied, LeaseCall, UnknownAccountError
from hybridroute_serve.keeper.answers import answer_json, bad_request, not_found
from hybridroute_serve.keeper.budget_messages import (
    LEASE_CLOSE_PATH,
    LEASES_PATH,
    RESERVATIONS_PATH,
    SETTLEMENTS_PATH,
    SHARE_LEAVE_PATH,
    SHARES_PATH,
    DeniedAnswer,
    LeaseClosing,
    ReservedAnswer,
    SettlementNote,
    ShareCall,
    ShareLeaving,
)
from hybridroute_serve.keeper.service import Keeper

__all__ = ["BadBodyError", "BudgetEndpoints"]

_DONE = {"status": "stored"}
_T = TypeVar("_T")


class BadBodyError(Exception):
    """The body is not what the path takes."""


@dataclass(frozen=True, slots=True)
class BudgetEndpoints:
    """Routes around one keeper."""

    keeper: Keeper

    def routes(self) -> list[Route]:
        """Return them."""
        return [
            Route(SHARES_PATH, self.renew_share, methods=["POST"]),
            Route(SHARE_LEAVE_PATH, self.leave_share, methods=["POST"]),
            Route(LEASES_PATH, self.call_lease, methods=["POST"]),
            Route(LEASE_CLOSE_PATH, self.close_lease, methods=["POST"]),
            Route(RESERVATIONS_PATH, self.reserve, methods=["POST"]),
            Route(SETTLEMENTS_PATH, self.settle, methods=["POST"]),
        ]

    async def renew_share(self, request: Request) -> Response:
        """The next share; 204 for a request that a later one has overtaken."""
        answer = await self.keeper.renew_share(await _read(request, ShareCall))
        return Response(status_code=204) if answer is None else answer_json(answer)

    async def leave_share(self, request: Request) -> Response:
        """Take a share back."""
        self.keeper.shares.leave((await _read(request, ShareLeaving)).replica)
        return answer_json(_DONE)

    async def call_lease(self, request: Request) -> Response:
        """Take a report on a lease, and lend more; 404 when the account has no budget now."""
        call = await _read(request, LeaseCall)
        await self.keeper.await_lead()
        try:
            with self.keeper.under_fence():
                return answer_json(await self.keeper.dollars.call_lease(call))
        except UnknownAccountError:
            return not_found(ErrorCode.ACCOUNT_NOT_FOUND, "This account has no budget now.")

    async def close_lease(self, request: Request) -> Response:
        """End a lease that is given back."""
        closing = await _read(request, LeaseClosing)
        await self.keeper.await_lead()
        with self.keeper.under_fence():
            await self.keeper.dollars.close_lease(closing.lease_id, closing.settled_nano_usd)
        return answer_json(_DONE)

    async def reserve(self, request: Request) -> Response:
        """Reserve one attempt's bound from all its accounts, or deny it."""
        claim = await _read(request, Claim)
        await self.keeper.await_lead()
        try:
            with self.keeper.under_fence():
                answer = await self.keeper.dollars.reserve(claim)
        except ValueError as error:
            return bad_request(f"bad claim: {error}")
        if isinstance(answer, Denied):
            return answer_json(
                DeniedAnswer(
                    account=answer.account,
                    limit_nano_usd=answer.limit_nano_usd,
                    settled_nano_usd=answer.settled_nano_usd,
                    reserved_nano_usd=answer.reserved_nano_usd,
                    asked_nano_usd=answer.asked_nano_usd,
                    resets_at=answer.resets_at,
                    past_unknown=answer.past_unknown,
                )
            )
        return answer_json(ReservedAnswer(answer.nano_usd))

    async def settle(self, request: Request) -> Response:
        """End a reservation."""
        note = await _read(request, SettlementNote)
        await self.keeper.await_lead()
        with self.keeper.under_fence():
            await self.keeper.dollars.settle(note.attempt_id, note.billed_nano_usd)
        return answer_json(_DONE)


async def _read(request: Request, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBodyError(str(error)) from error
