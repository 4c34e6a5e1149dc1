"""All attempts of one request: the loop that plans, waits, reserves, sends and, when nothing is left, answers.

One owner of the request's ledger, so that retries, fallbacks and hedges share `max_attempts`, the deadline and the
replica's retry budget. Waits are what the plan says, slept with the `sleep` that is handed in; `tenacity.AsyncRetrying`
would run the same loop for 100 µs a request, also for those that never wait (`docs/decisions/0004`).
"""

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import msgspec

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Header, Outcome, PathName
from hybridroute_serve.keeper.budget_client import Reservation
from hybridroute_serve.retries.attempts import (
    AttemptKind,
    AttemptLedger,
    EndedAttempt,
    NextAttempt,
    Stop,
    StopReason,
)
from hybridroute_serve.upstream.attempt import RelayRequest, attempt_id
from hybridroute_serve.upstream.books import AttemptEnd
from hybridroute_serve.upstream.dollars import AttemptAccounts, reserve_attempt
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.upstream.guard import GuardedUpstream, UpstreamGuard
from hybridroute_serve.upstream.race import AnswerRace
from hybridroute_serve.upstream.relay import Relay
from hybridroute_serve.upstream.ticket import AttemptTicket
from hybridroute_serve.wire.asgi import Send
from hybridroute_serve.wire.errors import path_timeout, path_unavailable

__all__ = ["CallerTerms", "PursuitParts", "RequestPursuit"]

_ATTEMPT_HEADER = b"x-attempt"
_IDEMPOTENCY_HEADER = b"idempotency-key"
_FAIR_SHARE_OF_TIMEOUT = 0.5
"""An attempt that the caller's deadline gave less than this of its own timeout says nothing of the upstream."""


@dataclass(frozen=True, slots=True)
class PursuitParts:
    """What all requests of a replica share."""

    relay: Relay
    guard: UpstreamGuard
    accounts: AttemptAccounts
    wall_clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


class CallerTerms(msgspec.Struct, frozen=True):
    """What came with the request besides its body."""

    client: str | None = None
    """Name of the client whose key it came with."""
    failed_over: bool = False
    """Another path has failed it, so its first attempt here is an extra one."""
    patience_seconds: float | None = None
    """What is left of the caller's own deadline."""
    audit: bool = False
    """It copies an answered request. Nobody waits for it, so it gets one attempt and no retry token."""


class RequestPursuit:
    """One request until it is answered; run it once."""

    def __init__(
        self,
        parts: PursuitParts,
        request: RelayRequest,
        policy: LivePolicy,
        terms: CallerTerms,
        send: Send,
    ) -> None:
        self._parts = parts
        self._request = request
        self._terms = terms
        self._send = send
        self._upstreams = parts.guard.follow(policy.llm)
        longest_seconds = self._upstreams.longest_seconds
        patience_seconds = longest_seconds if terms.patience_seconds is None else terms.patience_seconds
        self._ledger = AttemptLedger(
            max_attempts=1 if terms.audit else policy.llm.retries.max_attempts,
            deadline=parts.guard.clock() + min(patience_seconds, longest_seconds),
            attempts=(_FAILED_ON_ANOTHER_PATH,) if terms.failed_over else (),
        )
        self._numbers = itertools.count(self._ledger.next_number)
        self._given_up: set[str] = set()
        self._failure: AttemptFailure | None = None
        self._hedged = False

    async def run(self) -> AttemptFailure | None:
        """Attempt until served. None: an answer has been sent, whole or cut short."""
        while True:
            plan = self._parts.guard.plan(self._ledger, self._upstreams, self._given_up)
            if isinstance(plan, Stop):
                return self._give_up(plan)
            if plan.wait_seconds > 0:
                await self._parts.sleep(plan.wait_seconds)
            ticket = await self._admit(plan)
            if isinstance(ticket, AttemptFailure):
                return ticket
            if ticket is not None and await self._attempt(ticket) is None:
                return None

    async def _admit(self, plan: NextAttempt) -> AttemptTicket | AttemptFailure | None:
        """Reserve dollars, take token and permit. None: one of these is gone since the plan, so plan again.

        Between the token and the attempt nothing waits, so none is taken for an attempt that is not made.
        """
        parts, upstream = self._parts, self._upstreams.find(plan.upstream)
        number = next(self._numbers)
        reservation = None
        if parts.accounts.is_budgeted(self._terms.client):
            reserved = await reserve_attempt(
                parts.accounts,
                self._request,
                upstream.config,
                attempt_id=attempt_id(self._request.request_id, PathName.LLM, number),
                client=self._terms.client,
                now_unix=parts.wall_clock(),
            )
            if isinstance(reserved, AttemptFailure):
                return reserved
            reservation = reserved
        permit = parts.guard.admit(plan, upstream) if self._may_send(reservation) else None
        if permit is None:
            if reservation is not None:
                parts.accounts.release(reservation)
            return None
        return AttemptTicket(
            number=number,
            kind=plan.kind,
            upstream=upstream,
            permit=permit,
            guard=parts.guard,
            upstreams=self._upstreams,
            accounts=parts.accounts,
            reservation=reservation,
            patience_ends_at=self._patience_ends_at(upstream),
            note_end=self._note_end,
        )

    def _may_send(self, reservation: Reservation | None) -> bool:
        if self._seconds_left() <= 0:
            return False
        return reservation is None or self._parts.accounts.is_valid(reservation)

    async def _attempt(self, ticket: AttemptTicket) -> AttemptFailure | None:
        hedge = self._parts.guard.plan_hedge(
            self._ledger,
            self._upstreams,
            self._given_up,
            under_way=ticket.upstream,
            streamed=self._request.parsed.stream,
            hedged=self._hedged,
        )
        if hedge is None:
            return await self._relay(ticket, self._send)
        return await self._attempt_hedged(ticket, hedge)

    async def _attempt_hedged(self, ticket: AttemptTicket, hedge: NextAttempt) -> AttemptFailure | None:
        """Make an attempt; if it is slow, one beside it. The loser is cancelled, and settled as any other."""
        race = AnswerRace(self._send)
        tickets = [ticket]
        first = asyncio.create_task(self._relay(ticket, race.contender()))
        patience = asyncio.ensure_future(self._parts.sleep(hedge.wait_seconds))
        attempts = [first]
        try:
            await asyncio.wait({first, patience}, return_when=asyncio.FIRST_COMPLETED)
            if not first.done():
                second = await self._admit(hedge)
                # Whatever speaks against a hedge, the attempt under way goes on.
                if isinstance(second, AttemptTicket):
                    self._hedged = True
                    tickets.append(second)
                    attempts.append(asyncio.create_task(self._relay(second, race.contender())))
            return await race.finish(attempts)
        finally:
            for task in (patience, *attempts):
                task.cancel()
            await asyncio.gather(patience, *attempts, return_exceptions=True)
            for one in tickets:
                one.abandon()

    async def _relay(self, ticket: AttemptTicket, send: Send) -> AttemptFailure | None:
        headers = [*self._request.headers, (_ATTEMPT_HEADER, str(ticket.number).encode())]
        if ticket.kind is AttemptKind.HEDGE:
            # It is meant to be worked on twice.
            headers = [header for header in headers if header[0] != _IDEMPOTENCY_HEADER]
        try:
            return await self._parts.relay.attempt(
                msgspec.structs.replace(self._request, headers=headers),
                ticket.upstream.target(self._request.parsed.api),
                send,
                number=ticket.number,
                seconds=self._seconds_left(),
                books=ticket,
            )
        finally:
            ticket.abandon()

    def _note_end(self, ended: EndedAttempt, end: AttemptEnd) -> None:
        self._ledger = self._ledger.with_attempt(ended)
        if end.failure is not None:
            self._failure = end.failure
            if not end.failure.may_pass:
                self._given_up.add(ended.upstream)

    def _seconds_left(self) -> float:
        return self._ledger.deadline - self._parts.guard.clock()

    def _patience_ends_at(self, upstream: GuardedUpstream) -> float | None:
        fair_seconds = _FAIR_SHARE_OF_TIMEOUT * upstream.config.timeouts.total_seconds
        return self._ledger.deadline if self._seconds_left() < fair_seconds else None

    def _give_up(self, stop: Stop) -> AttemptFailure:
        """Make the answer of a request that nothing serves; whether to try again was decided here."""
        failure = self._failure or self._failure_unsent(stop.reason)
        if failure.outcome is Outcome.CLIENT_ERROR:
            return failure
        passed = tuple(header for header in failure.upstream_headers if header[0] != b"x-should-retry")
        headers = [*failure.answer.headers, (b"x-should-retry", b"false")]
        named = {name for name, _ in (*headers, *passed)}
        if failure.answer.status == 503 and b"retry-after" not in named:
            seconds = stop.retry_after_seconds or self._upstreams.reopens_in(self._parts.guard.clock())
            headers.append((b"retry-after", str(max(1, math.ceil(seconds))).encode()))
        if stop.reason is StopReason.RETRY_BUDGET_EXHAUSTED:
            headers.append((Header.RETRY_BUDGET.encode(), b"exhausted"))
        return replace(
            failure, answer=replace(failure.answer, headers=tuple(headers)), upstream_headers=passed
        )

    def _failure_unsent(self, reason: StopReason) -> AttemptFailure:
        if reason is StopReason.DEADLINE:
            answer = path_timeout("The request's deadline had passed before it could be sent.")
            return AttemptFailure(Outcome.TIMEOUT, answer, str(reason))
        answer = path_unavailable("No upstream of the remote model is available.")
        return AttemptFailure(Outcome.UPSTREAM_ERROR, answer, str(reason))


_FAILED_ON_ANOTHER_PATH = EndedAttempt(PathName.SLM, AttemptKind.FIRST, Outcome.UPSTREAM_ERROR)
"""What a request brings that was failed over: it counts as an attempt, and the next is an extra one."""
