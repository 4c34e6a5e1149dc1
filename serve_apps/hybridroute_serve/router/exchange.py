"""One request through the router: read, decide, hand on, record. The record is written whatever happens.

The body travels on as it came. What the client is sent is `reply`'s.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from hybridroute_api.records import CascadeCheck
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Api, ErrorCode, Gate, InternalHeader, Outcome, PathName
from hybridroute_serve.router.admission import AdmissionError
from hybridroute_serve.router.audit import AskedRequest
from hybridroute_serve.router.cascade import Cascade
from hybridroute_serve.router.parts import RouterParts
from hybridroute_serve.router.path_client import PathAnswer, PathFailure
from hybridroute_serve.router.patience import path_seconds, read_patience
from hybridroute_serve.router.policy import ActivePolicy
from hybridroute_serve.router.progress import Progress
from hybridroute_serve.router.reply import Reply
from hybridroute_serve.router.request_facts import request_facts
from hybridroute_serve.router.request_ids import presented_name
from hybridroute_serve.router.unaffordable import say_unaffordable
from hybridroute_serve.routing.by_artifact import CalibratedPolicy
from hybridroute_serve.routing.decision import decide_route, needs_scores, plan_failover, plan_unaffordable
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.wire.asgi import (
    BodyTooLargeError,
    ClientDisconnectedError,
    EncodedBodyError,
    Receive,
    Scope,
    Send,
    read_body,
    refuse_encoded_body,
    request_headers,
)
from hybridroute_serve.wire.errors import (
    InvalidRequest,
    body_too_large,
    internal_error,
    invalid_request,
    read_error_code,
    read_error_message,
    rejection,
    starting,
    unsupported_encoding,
)
from hybridroute_serve.wire.headers import headers_for_provider
from hybridroute_serve.wire.requests import ParsedRequest, parse_request

__all__ = ["OPERATIONS", "Exchange"]

_log = logging.getLogger(__name__)

OPERATIONS = {Api.CHAT_COMPLETIONS: "/v1/chat/completions", Api.COMPLETIONS: "/v1/completions"}

_STATUS_CLIENT_GONE = 499
_MOST_HEADER_BYTES = 8192
"""Of those that go on to a path: far less than its ingress refuses, with what is added to them."""
_FAILURE_GATES = frozenset({Gate.HEALTH, Gate.OVERFLOW})


class _Accepted(msgspec.Struct, frozen=True):
    """A request that is let in and can be read, with the policy that it is served by."""

    body: bytes
    headers: list[tuple[bytes, bytes]]
    """The client's, as far as they may travel on."""
    parsed: ParsedRequest
    active: ActivePolicy

    @property
    def policy(self) -> LivePolicy:
        """The document."""
        return self.active.document


class Exchange:
    """One request; used once."""

    def __init__(self, parts: RouterParts, api: Api, scope: Scope, receive: Receive, send: Send) -> None:
        self._parts = parts
        self._api = api
        self._scope = scope
        self._receive = receive
        self._so_far = Progress(
            request_id=parts.make_request_id(),
            route=parts.route,
            replica=parts.replica,
            api=api,
            received_at=parts.wall_clock(),
        )
        name = presented_name(scope) or self._so_far.request_id
        self._reply = Reply(parts, self._so_far, send, name=name.encode())
        self._failed_over = False

    async def run(self) -> None:
        """Serve the request and write its record."""
        so_far = self._so_far
        try:
            await self._serve()
        except (asyncio.CancelledError, ClientDisconnectedError) as gone:
            so_far.outcome = Outcome.CANCELLED
            so_far.status = so_far.status or _STATUS_CLIENT_GONE
            if isinstance(gone, asyncio.CancelledError):
                raise
        except Exception:  # a defect of ours must still be answered and recorded
            _log.exception("request failed request_id=%s", so_far.request_id)
            if so_far.status:
                raise
            await self._reply.refuse(internal_error(), Outcome.UPSTREAM_ERROR)
        finally:
            self._parts.journal.close_request(so_far.to_record(self._reply.elapsed()))

    async def _serve(self) -> None:
        active = self._parts.policies.active
        if active is None:
            await self._reply.refuse(starting(), Outcome.UPSTREAM_ERROR)
            return
        self._so_far.policy = active.document
        self._so_far.terms = active.calibrated.terms if active.calibrated is not None else None
        try:
            accepted = await self._let_in(active)
        except AdmissionError as error:
            outcome = Outcome.REJECTED if error.answer.status < 500 else Outcome.UPSTREAM_ERROR
            await self._reply.refuse(error.answer, outcome)
        except BodyTooLargeError as error:
            await self._reply.refuse(body_too_large(error.limit_bytes), Outcome.CLIENT_ERROR)
        except EncodedBodyError as error:
            await self._reply.refuse(unsupported_encoding(error.encoding), Outcome.CLIENT_ERROR)
        except InvalidRequest as error:
            await self._reply.refuse(invalid_request(error), Outcome.CLIENT_ERROR)
        else:
            await self._decide_and_hand_on(accepted)

    async def _let_in(self, active: ActivePolicy) -> _Accepted:
        """Check key, limits and form, the cheapest first. Raises what `_serve` answers."""
        admission = self._parts.admission
        self._so_far.client = client = admission.identify(self._scope, active)
        admission.count_request(client)
        self._reply.patience = read_patience(self._scope, self._reply.started)
        refuse_encoded_body(self._scope)
        body = await read_body(self._scope, self._receive, active.document.max_body_bytes)
        self._so_far.parsed = parsed = parse_request(body, self._api)
        admission.count_tokens(client, parsed, active.document)
        headers = headers_for_provider(request_headers(self._scope))
        if sum(len(name) + len(value) for name, value in headers) > _MOST_HEADER_BYTES:
            names = ", ".join(sorted({name.decode() for name, _ in headers}))
            raise InvalidRequest(
                None, f"The headers {names} are longer than {_MOST_HEADER_BYTES} bytes together."
            )
        return _Accepted(body, headers, parsed, active)

    async def _decide_and_hand_on(self, accepted: _Accepted) -> None:
        parsed, active = accepted.parsed, accepted.active
        client = self._so_far.client
        facts = request_facts(
            parsed,
            await self._find_conversation(parsed),
            local_only=client is not None and client.local_only,
        )
        self._so_far.facts = facts
        before = self._parts.monotonic_clock()
        scorer = active.calibrated or active.scorer
        if active.calibrated is not None and active.calibrated.is_slow:
            scorer = await self._score_aside(active.calibrated, facts, active.document)
        self._so_far.standing = standing = self._parts.standing()
        decision = decide_route(facts, active.document, scorer, self._parts.health(), standing)
        self._so_far.decision_seconds = self._parts.monotonic_clock() - before
        self._so_far.decision = decision
        if decision.path is None:
            assert decision.rejection is not None  # noqa: S101 - decide_route's contract
            refused = decision.rejection
            outcome = Outcome.CLIENT_ERROR if refused.code is ErrorCode.MODEL_NOT_FOUND else Outcome.REJECTED
            outcome = Outcome.UPSTREAM_ERROR if refused.code is ErrorCode.PATH_UNAVAILABLE else outcome
            await self._reply.refuse(rejection(refused.status, refused.code, refused.message), outcome)
            return
        self._parts.journal.open_request(self._so_far.to_open(parsed, decision, active.document))
        self._reply.drawn = self._parts.auditor.draw(self._so_far, self._parts.health)
        await self._hand_on(accepted, decision)
        if self._reply.drawn is not None:
            asked = AskedRequest(OPERATIONS[self._api], accepted.body, accepted.headers)
            self._parts.auditor.copy(
                self._reply.drawn, asked, self._so_far, elapsed_seconds=self._reply.elapsed()
            )

    async def _score_aside(
        self, policy: CalibratedPolicy, facts: RequestFacts, document: LivePolicy
    ) -> CalibratedPolicy:
        """Compute what takes milliseconds in a thread, and only for a request that its scores decide."""
        if not needs_scores(facts, document):
            return policy
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(self._parts.scoring, policy.scorer.score_text, facts.text)
        return policy.with_scores(scores)

    async def _find_conversation(self, parsed: ParsedRequest) -> PathName | None:
        if parsed.conversation_key is None:
            return None
        return await self._parts.conversations.find_path(parsed.conversation_key)

    async def _hand_on(self, accepted: _Accepted, first: RouteDecision) -> None:
        decision, cascade = first, self._begin_cascade(first, accepted.policy)
        while True:
            path = decision.path
            assert path is not None  # noqa: S101 - refusals never come here
            looked_at = cascade if decision is first else None
            async with self._ask(accepted, decision, path, looked_at) as answer:
                if isinstance(answer, PathAnswer):
                    onward = self._look_at(answer, looked_at)
                    if onward is None:
                        await self._reply.pass_answer(answer, path)
                        return
                elif cascade is not None and decision.gate is Gate.CASCADE:
                    onward = cascade.let_stand(answer, self._parts.monotonic_clock())
                    if cascade.whole_answer is None and self._reply.seconds_left() == 0.0:
                        await self._reply.pass_failure(answer, path)
                        return
                    self._so_far.decision = onward
                    if cascade.whole_answer is not None:
                        await self._reply.pass_answer(cascade.whole_answer, PathName.SLM)
                        return
                else:
                    onward = self._plan_onward(decision, answer, accepted.policy)
                    self._so_far.decision = onward or decision
                    if onward is None or onward.path is path:
                        await self._reply.pass_failure(answer, path)
                        return
                _log.info(
                    "moved request_id=%s from=%s outcome=%s gate=%s",
                    self._so_far.request_id,
                    path,
                    Outcome.OK if isinstance(answer, PathAnswer) else answer.outcome,
                    onward.gate,
                )
            decision = onward

    def _begin_cascade(self, decision: RouteDecision, policy: LivePolicy) -> Cascade | None:
        """Count the request for the cascade's share, and say whether the SLM's answer is to be looked at."""
        so_far, terms = self._so_far, policy.routing.cascade
        if terms is None or so_far.facts is None:
            return None
        client = so_far.client.name if so_far.client is not None else None
        now = self._parts.monotonic_clock()
        begun = self._parts.cascade.begin(
            terms, decision, so_far.facts, terms=so_far.terms, client=client, now=now
        )
        if isinstance(begun, CascadeCheck):
            so_far.cascade = begun
            return None
        return begun

    def _look_at(self, answer: PathAnswer, cascade: Cascade | None) -> RouteDecision | None:
        """Return where the request goes instead, or None: the answer is passed on."""
        if cascade is None:
            return None
        onward = cascade.judge(answer)
        self._so_far.cascade = cascade.check
        if onward is not None:
            self._so_far.decision = onward
            self._reply.slm_seconds = self._reply.elapsed()
        return onward

    @asynccontextmanager
    async def _ask(
        self, accepted: _Accepted, decision: RouteDecision, path: PathName, cascade: Cascade | None
    ) -> AsyncIterator[PathAnswer | PathFailure]:
        """Send the request to a path, and tell the SLM's guard how that went."""
        # The headers of a stream that is held come with its last held token.
        soon = accepted.parsed.stream and cascade is None
        seconds = path_seconds(decision, accepted.policy, stream=soon)
        left = self._reply.seconds_left()
        guard = self._parts.slm_guard if path is PathName.SLM else None
        permit = guard.begin(self._parts.monotonic_clock()) if guard else None
        outcome: Outcome | None = None
        try:
            async with self._parts.paths.send_request(
                path,
                OPERATIONS[self._api],
                accepted.body,
                accepted.headers,
                internal=self._internal_headers(decision, left, accepted.policy, cascade),
                stream=accepted.parsed.stream,
                first_byte_seconds=seconds if left is None else min(seconds, left),
                recall=self._parts.slm_recall if path is PathName.SLM and decision.fallbacks else None,
            ) as answer:
                outcome = Outcome.OK if isinstance(answer, PathAnswer) else answer.outcome
                if outcome is Outcome.TIMEOUT and left is not None and left < seconds:
                    # The caller's patience says nothing of the SLM.
                    outcome = None
                if guard is not None:
                    guard.end(permit, outcome, self._parts.monotonic_clock())
                    guard = None
                yield answer
        finally:
            if guard is not None:
                guard.end(permit, None, self._parts.monotonic_clock())

    def _internal_headers(
        self, decision: RouteDecision, left: float | None, policy: LivePolicy, cascade: Cascade | None
    ) -> dict[InternalHeader, str]:
        headers = {
            InternalHeader.REQUEST_ID: self._so_far.request_id,
            InternalHeader.GATE: decision.gate.value,
        }
        if self._so_far.client is not None:
            headers[InternalHeader.CLIENT] = self._so_far.client.name
        if cascade is not None:
            headers[InternalHeader.CASCADE_TOKENS] = str(cascade.tokens)
        if cascade is None and self._reply.slm_seconds is not None and decision.path is PathName.SLM:
            headers[InternalHeader.ATTEMPT] = "2"
        if self._failed_over:
            headers[InternalHeader.FAILED_OVER] = "1"
        if left is not None:
            longest = path_seconds(decision, policy, stream=False)
            headers[InternalHeader.DEADLINE_SECONDS] = f"{min(left, longest):.3f}"
        return headers

    def _plan_onward(
        self, decision: RouteDecision, failure: PathFailure, policy: LivePolicy
    ) -> RouteDecision | None:
        """Say where the request goes after a path could not serve it; the same path: nowhere, by the budget gate."""
        if self._reply.seconds_left() == 0.0:
            return None
        self._reply.keep_headers(failure)
        if failure.outcome is Outcome.UNAFFORDABLE:
            detail = say_unaffordable(failure, self._reply.kept_headers, policy, self._so_far.client)
            return plan_unaffordable(decision, policy.budget, self._parts.health(), detail)
        onward = plan_failover(
            decision, failure.outcome, read_error_code(failure.body), read_error_message(failure.body)
        )
        if onward is not None:
            self._so_far.failed_over_from = decision.path
            self._failed_over = onward.path is PathName.LLM and onward.gate in _FAILURE_GATES
        return onward
