"""Audits: a drawn request's copy goes to the path that did not serve it, and both answers are compared.

In the background and after the client has its answer: nobody waits for a copy, and a request that failed, was moved or
was abandoned has none. A copy is an attempt of gate `audit`: it pays from the dollar ledger, gets no retry, and ends by
the deadline that its request had. It leaves one record, with the distance of the two answers and neither text.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import aiohttp
from msgspec.structs import replace

from hybridroute_api.records import AUDIT_SUFFIX, AuditResult, DecisionRecord
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Gate, InternalHeader, Outcome, PathName
from hybridroute_serve.router.path_client import PathAnswer, PathClient
from hybridroute_serve.router.patience import path_seconds
from hybridroute_serve.router.progress import Progress
from hybridroute_serve.routing.audit import AuditPlan, plan_audit
from hybridroute_serve.routing.drift.comparison import compare_answers
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.facts import PathHealth
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.upstream.bodies import read_answer
from hybridroute_serve.wire.answer_texts import read_text
from hybridroute_serve.wire.answers import InvalidAnswerError

__all__ = ["MOST_COPIES", "AskedRequest", "Auditor", "DrawnRequest"]

_log = logging.getLogger(__name__)

MOST_COPIES = 64
"""Copies under way in one replica. Beyond them no request is drawn, whatever it says."""
LONGEST_ANSWER_BYTES = 1024 * 1024
"""Of an answer that is kept to be compared, its envelope included; a longer one is not audited."""
_IDEMPOTENCY_HEADER = b"idempotency-key"
_UPSTREAM = InternalHeader.UPSTREAM.encode()

Headers = tuple[tuple[bytes, bytes], ...]


class AuditJournal(Protocol):
    """Where records go; returns at once."""

    def close_request(self, record: DecisionRecord) -> None:
        """Note how an audit ended."""
        ...


@dataclass(frozen=True, slots=True)
class AskedRequest:
    """A request as it is sent to a path."""

    operation: str
    body: bytes
    headers: list[tuple[bytes, bytes]]


@dataclass(slots=True)
class DrawnRequest:
    """A request that was drawn, while its client is being answered."""

    decision: RouteDecision
    """The one that it was drawn by: a request that is moved later is not audited."""
    plan: AuditPlan
    policy: LivePolicy
    upstream: str = ""
    """Who answered, in the path's own words."""
    _pieces: list[bytes] = field(default_factory=list)
    _bytes: int = 0

    def begin(self, headers: Headers) -> None:
        """Note who answers."""
        self.upstream = _read_upstream(headers)

    def keep(self, piece: bytes) -> None:
        """Keep a piece of the answer."""
        self._bytes += len(piece)
        if self._bytes <= LONGEST_ANSWER_BYTES:
            self._pieces.append(piece)

    @property
    def answer(self) -> bytes | None:
        """The whole of it; None when it was too long to keep."""
        return b"".join(self._pieces) if self._bytes <= LONGEST_ANSWER_BYTES else None


class Auditor:
    """Draws requests and sees to their copies; one a replica."""

    def __init__(
        self,
        paths: PathClient,
        journal: AuditJournal,
        embedder: Embedder,
        *,
        random: Callable[[], float],
        wall_clock: Callable[[], float],
        monotonic_clock: Callable[[], float],
    ) -> None:
        """`random`: uniform from 0 to 1, of a source that no client can foresee."""
        self._paths = paths
        self._journal = journal
        self._embedder = embedder
        self._random = random
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        self._copies: set[asyncio.Task[None]] = set()

    def draw(self, so_far: Progress, health: Callable[[], PathHealth]) -> DrawnRequest | None:
        """Draw a decided request, or do not; the chance that it had is noted either way."""
        decision, facts, policy = so_far.decision, so_far.facts, so_far.policy
        if decision is None or facts is None or policy is None:
            return None
        asked = policy.routing.artifact
        if asked is None or asked.audit_share <= 0.0 or len(self._copies) >= MOST_COPIES:
            return None
        plan = plan_audit(decision, facts, so_far.terms, asked, health())
        if plan is None:
            return None
        so_far.audit_propensity = plan.propensity
        return DrawnRequest(decision, plan, policy) if self._random() < plan.propensity else None

    def copy(
        self, drawn: DrawnRequest, asked: AskedRequest, so_far: Progress, *, elapsed_seconds: float
    ) -> None:
        """Begin to copy a request that has ended, if it was answered as it was decided."""
        answer = drawn.answer
        if so_far.outcome is not Outcome.OK or so_far.decision is not drawn.decision or answer is None:
            return
        # With somewhere else to go: what nobody waits for does not wait for a path's restart.
        other = replace(drawn.decision, path=drawn.plan.copy_to, fallbacks=(PathName.LLM,))
        seconds = path_seconds(other, drawn.policy, stream=False) - elapsed_seconds
        audit = self._audit(drawn, asked, self._begin_record(drawn, so_far), answer, seconds)
        task = asyncio.create_task(audit, name="audit")
        self._copies.add(task)
        task.add_done_callback(self._copies.discard)

    async def stop(self) -> None:
        """End what is under way; its records say that it was cancelled."""
        copies = tuple(self._copies)
        for task in copies:
            task.cancel()
        await asyncio.gather(*copies, return_exceptions=True)

    def _begin_record(self, drawn: DrawnRequest, so_far: Progress) -> DecisionRecord:
        parsed = so_far.parsed
        return DecisionRecord(
            request_id=so_far.request_id + AUDIT_SUFFIX,
            route=so_far.route,
            replica=so_far.replica,
            api=so_far.api,
            stream=parsed.stream if parsed else False,
            requested_model=parsed.model if parsed else "",
            path=drawn.plan.copy_to,
            gate=Gate.AUDIT,
            reason=f"copy of {so_far.request_id}, which {so_far.answered_by} has answered",
            status=0,
            outcome=Outcome.UPSTREAM_ERROR,
            received_at=self._wall_clock(),
            decision_seconds=0.0,
            total_seconds=0.0,
            policy_version=drawn.policy.version,
            artifact=so_far.terms.artifact if so_far.terms else None,
            audit=AuditResult(so_far.request_id, drawn.plan.propensity),
        )

    async def _audit(
        self, drawn: DrawnRequest, asked: AskedRequest, record: DecisionRecord, answer: bytes, seconds: float
    ) -> None:
        started = self._monotonic_clock()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                record = await self._send(drawn, asked, record, answer, seconds)
        except TimeoutError:
            record = replace(record, outcome=Outcome.TIMEOUT)
        except (aiohttp.ClientError, InvalidAnswerError) as error:
            _log.info("audit broke off request_id=%s reason=%s", record.request_id, type(error).__name__)
        except asyncio.CancelledError:
            record = replace(record, outcome=Outcome.CANCELLED)
            raise
        except Exception:  # noqa: BLE001 - a defect here must not go unseen, and concerns no client
            _log.exception("audit failed request_id=%s", record.request_id)
        finally:
            self._journal.close_request(replace(record, total_seconds=self._monotonic_clock() - started))

    async def _send(
        self, drawn: DrawnRequest, asked: AskedRequest, record: DecisionRecord, answer: bytes, seconds: float
    ) -> DecisionRecord:
        """Return the record of a copy, with the distance where there are two answers of the models promised."""
        async with self._paths.send_request(
            drawn.plan.copy_to,
            asked.operation,
            asked.body,
            # An answer to the copy must never be taken for one to the client's own request.
            [header for header in asked.headers if header[0] != _IDEMPOTENCY_HEADER],
            internal={
                InternalHeader.REQUEST_ID: record.request_id,
                InternalHeader.GATE: Gate.AUDIT.value,
                InternalHeader.DEADLINE_SECONDS: f"{seconds:.3f}",
            },
            stream=record.stream,
            first_byte_seconds=seconds,
        ) as copied:
            record = replace(record, status=copied.status)
            if not isinstance(copied, PathAnswer):
                return replace(record, outcome=copied.outcome)
            second = copied.body if copied.response is None else await read_answer(copied.response)
        texts = [read_text(one or b"", streamed=record.stream) for one in (answer, second)]
        record = replace(record, outcome=Outcome.OK)
        upstream = _read_upstream(copied.headers) if drawn.plan.copy_to is PathName.LLM else drawn.upstream
        primary = drawn.policy.llm.primary.name
        if upstream not in ("", primary):
            return replace(
                record, reason=f"{record.reason}; {upstream} is not {primary}, so nothing is compared"
            )
        assert record.audit is not None  # noqa: S101 - made with one
        # A tokenizer and a parser at work on what may be long: not in the loop that serves.
        distance = await asyncio.to_thread(compare_answers, texts[0], texts[1], self._embedder.embed)
        return replace(record, audit=replace(record.audit, disagreement=distance))


def _read_upstream(headers: Headers) -> str:
    return next((value.decode("latin-1") for name, value in headers if name.lower() == _UPSTREAM), "")
