"""The keeper as an ASGI application: routes, tokens and error answers around `service.Keeper`.

Everything but `/healthz` needs the internal token; `/metrics` also takes the metrics token as a bearer token,
which is good for nothing else.
"""

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from hybridroute_api.records import Batch
from hybridroute_api.serving import KeeperArgs
from hybridroute_api.vocabulary import ErrorCode, InternalHeader
from hybridroute_serve.budgets.store import StoreUnavailableError
from hybridroute_serve.journal import BATCH_PATH
from hybridroute_serve.keeper.accounts import account_costs
from hybridroute_serve.keeper.answers import JSON, answer_error, answer_json, bad_request, not_found
from hybridroute_serve.keeper.budget_documents import gauge_budgets, show_budgets, show_retry_budget
from hybridroute_serve.keeper.budget_endpoints import BadBodyError, BudgetEndpoints
from hybridroute_serve.keeper.committer import BadBatchError
from hybridroute_serve.keeper.documents import (
    gauge_state,
    show_audits,
    show_records,
    show_request,
    show_state,
)
from hybridroute_serve.keeper.dollars import BudgetsNotReadyError, EndedReplicaError
from hybridroute_serve.keeper.incumbency import HEALTH_PATH, NotLeadingError
from hybridroute_serve.keeper.metrics import expose_metrics
from hybridroute_serve.keeper.policy_documents import gauge_promise, show_policy, show_report
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.service import Keeper, NoPolicyError
from hybridroute_serve.keeper.store import FencedError
from hybridroute_serve.routing.embeddings import read_embedding_digest
from hybridroute_serve.wire.errors import ErrorAnswer, unauthorized_internal
from hybridroute_serve.wire.headers import is_internal_token

__all__ = ["build_keeper_app"]

_BATCHES = msgspec.json.Decoder(Batch)
_DEFAULT_LIMIT = 100
_MAX_LIMIT = 1000
_REPORT_LIMIT = 10_000
_MAX_REPORT_LIMIT = 100_000
_SERVER = "server_error"


def build_keeper_app(
    args: KeeperArgs,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    read_embedding: Callable[[str], str] = read_embedding_digest,
) -> Starlette:
    """Build the application. Its lifespan opens the state; `app.state.keeper` is the keeper at work."""
    keeper = Keeper(args, clock=clock, monotonic=monotonic, sleep=sleep, read_embedding=read_embedding)
    endpoints = _Endpoints(keeper)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await keeper.start()
        try:
            yield
        finally:
            await keeper.stop()

    app = Starlette(
        routes=[
            Route(BATCH_PATH, endpoints.take_batch, methods=["POST"]),
            *BudgetEndpoints(keeper).routes(),
            Route("/internal/live", endpoints.show_live),
            Route("/internal/standing", endpoints.show_standing),
            Route("/internal/artifacts/{digest}", endpoints.show_artifact),
            Route("/internal/conversations/{key:path}", endpoints.show_conversation),
            Route("/state", endpoints.show_state),
            Route("/records", endpoints.show_records),
            Route("/records/{request_id:path}", endpoints.show_record),
            Route("/costs", endpoints.show_costs),
            Route("/report", endpoints.show_report),
            Route("/audits", endpoints.show_audits),
            Route("/metrics", endpoints.show_metrics),
            Route(HEALTH_PATH, endpoints.show_health),
        ],
        middleware=[
            Middleware(
                _TokenGuard,
                token=_read_token(args.token_file),
                metrics_token=_read_token(args.metrics_token_file),
            )
        ],
        exception_handlers={
            FencedError: _answer_superseded,
            NotLeadingError: _answer_not_leading,
            NoPolicyError: _answer_no_policy,
            BudgetsNotReadyError: _answer_no_policy,
            BadBodyError: _answer_bad_body,
            EndedReplicaError: _answer_bad_body,
            sqlite3.Error: _answer_store_failure,
            StoreUnavailableError: _answer_store_failure,
        },
        lifespan=lifespan,
    )
    app.state.keeper = keeper
    return app


class _TokenGuard:
    """Turns away what does not know the token, before any of it is read."""

    def __init__(self, app: ASGIApp, token: str, metrics_token: str) -> None:
        self._app = app
        self._token = token
        self._metrics_bearer = f"Bearer {metrics_token}" if metrics_token else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_allowed(Request(scope)):
            await answer_error(unauthorized_internal())(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, request: Request) -> bool:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", "").rstrip("/"))
        if path == HEALTH_PATH:
            return True
        if is_internal_token(request.headers.get(InternalHeader.TOKEN), self._token):
            return True
        bearer = request.headers.get("authorization")
        return path == "/metrics" and is_internal_token(bearer, self._metrics_bearer)


@dataclass(frozen=True, slots=True)
class _Endpoints:
    keeper: Keeper

    async def take_batch(self, request: Request) -> Response:
        """Make a replica's batch durable; 200 means that it may forget it."""
        try:
            batch = _BATCHES.decode(await request.body())
            await self.keeper.submit(batch)
        except (msgspec.DecodeError, UnicodeDecodeError, BadBatchError) as error:
            return bad_request(f"bad batch: {error}")
        return answer_json({"status": "stored"})

    async def show_live(self, request: Request) -> Response:
        """The live policy; 304 when the asker has it."""
        policy = self.keeper.live.policy
        if policy is None:
            raise NoPolicyError(self.keeper.live.error)
        etag = f'"{policy.version}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        return Response(policy.model_dump_json(), media_type=JSON, headers={"etag": etag})

    async def show_standing(self, request: Request) -> Response:
        """Where drift stands; 304 when the asker knows."""
        body = msgspec.json.encode(self.keeper.standing())
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        return Response(body, media_type=JSON, headers={"etag": etag})

    async def show_artifact(self, request: Request) -> Response:
        """The calibrated policy in force, by its digest."""
        held = self.keeper.artifacts.held
        if held is None or held.digest != request.path_params["digest"]:
            return _unknown("calibrated policy")
        return Response(held.data, media_type="application/octet-stream")

    async def show_conversation(self, request: Request) -> Response:
        """The path that a conversation was served by."""
        key = request.path_params["key"]
        path = await self.keeper.read(lambda reads: reads.read_conversation(key))
        return _unknown("conversation") if path is None else answer_json({"path": path})

    async def show_record(self, request: Request) -> Response:
        """One request in full."""
        request_id = request.path_params["request_id"]
        stored = await self.keeper.read(lambda reads: reads.read_request(request_id))
        return _unknown("request") if stored is None else answer_json(show_request(stored))

    async def show_records(self, request: Request) -> Response:
        """The latest requests in short: `limit` (100, at most 1000) and `since` (Unix seconds)."""
        try:
            limit = int(request.query_params.get("limit", _DEFAULT_LIMIT))
            since = float(request.query_params.get("since", 0.0))
        except ValueError:
            limit = 0
        if not 1 <= limit <= _MAX_LIMIT:
            return bad_request(f"limit is an integer from 1 to {_MAX_LIMIT}, since a number of Unix seconds.")
        return answer_json(
            show_records(await self.keeper.read(lambda reads: reads.read_latest(limit, since)))
        )

    async def show_costs(self, _: Request) -> Response:
        """Costs per path."""
        return answer_json(account_costs(await self.keeper.read(Reads.read_totals)))

    async def show_report(self, request: Request) -> Response:
        """What the latest requests would have cost at other risks: `limit` (10,000, at most 100,000)."""
        limit = _read_limit(request)
        if limit is None:
            return bad_request(f"limit is an integer from 1 to {_MAX_REPORT_LIMIT}.")
        keeper = self.keeper
        held, policy = keeper.artifacts.held, keeper.live.policy
        terms = keeper.artifacts.plan(policy)
        if held is None or policy is None or policy.routing.artifact is None or terms is None:
            return _unknown("calibrated policy")
        asked = policy.routing.artifact
        stored = await keeper.read(lambda reads: reads.read_costs(limit, 0.0))
        return answer_json(show_report(held, asked, terms, stored))

    async def show_audits(self, request: Request) -> Response:
        """The latest audits with the requests that they copied: `limit` (10,000, at most 100,000)."""
        limit = _read_limit(request)
        if limit is None:
            return bad_request(f"limit is an integer from 1 to {_MAX_REPORT_LIMIT}.")
        return answer_json(show_audits(await self.keeper.read(lambda reads: reads.read_audits(limit))))

    async def show_state(self, _: Request) -> Response:
        """What a status is made of."""
        keeper = self.keeper
        replicas, totals = await keeper.read(lambda reads: (reads.read_replicas(), reads.read_totals()))
        state = show_state(
            route=keeper.route,
            epoch=keeper.epoch,
            superseded=keeper.superseded,
            live=keeper.live.policy,
            live_error=keeper.live.error,
            replicas=replicas,
            totals=totals,
            now=keeper.now,
        )
        state |= show_budgets(keeper.dollars.standings())
        state["policy"] = show_policy(
            keeper.artifacts.held, keeper.artifacts.plan(keeper.live.policy), keeper.artifacts.problem
        )
        state["guarantee"] = msgspec.to_builtins(keeper.judge_promise())
        state["drift"] = keeper.drift.show()
        state["retry_budget"] = show_retry_budget(keeper.shares.lent())
        return answer_json(state)

    async def show_metrics(self, request: Request) -> Response:
        """The metrics, in the format that the scraper accepts."""
        keeper = self.keeper
        accept = request.headers.get("accept", "")
        budgets = gauge_budgets(keeper.route, keeper.dollars.standings(), keeper.shares.lent())

        held = keeper.artifacts.held
        promise = gauge_promise(
            keeper.route, held.digest if held else None, keeper.artifacts.problem, keeper.judge_promise()
        )
        drift = {**keeper.drift.gauges(audited=keeper.audited), **promise}

        def expose(reads: Reads) -> tuple[bytes, str]:
            state = gauge_state(
                route=keeper.route,
                epoch=keeper.epoch,
                live=keeper.live.policy,
                live_error=keeper.live.error,
                replicas=reads.read_replicas(),
                now=keeper.now,
            )
            return expose_metrics(keeper.route, reads.read_totals(), {**state, **budgets, **drift}, accept)

        body, content_type = await keeper.read(expose)
        return Response(body, headers={"content-type": content_type})

    async def show_health(self, _: Request) -> Response:
        """200 while this keeper is the one that writes."""
        incumbency = self.keeper.incumbency
        named = {} if incumbency is None else {"keeper": incumbency.name}
        if self.keeper.superseded is not None:
            return answer_json({"status": "superseded", **named}, status=503)
        return answer_json({"status": "ok", **named})


def _answer_superseded(_: Request, error: Exception) -> Response:
    return answer_error(ErrorAnswer(503, _SERVER, ErrorCode.KEEPER_SUPERSEDED, str(error)))


def _answer_not_leading(_: Request, error: Exception) -> Response:
    return answer_error(ErrorAnswer(503, _SERVER, ErrorCode.KEEPER_NOT_LEADING, f"Not yet: {error}."))


def _answer_no_policy(_: Request, error: Exception) -> Response:
    return answer_error(ErrorAnswer(503, _SERVER, ErrorCode.STARTING, f"Not ready: {error}."))


def _answer_store_failure(_: Request, error: Exception) -> Response:
    return answer_error(ErrorAnswer(503, _SERVER, ErrorCode.INTERNAL, f"The store failed: {error}."))


def _answer_bad_body(_: Request, error: Exception) -> Response:
    return bad_request(f"bad body: {error}")


def _read_limit(request: Request) -> int | None:
    """Return how many of the latest are asked for; None when that is no number in range."""
    try:
        limit = int(request.query_params.get("limit", _REPORT_LIMIT))
    except ValueError:
        return None
    return limit if 1 <= limit <= _MAX_REPORT_LIMIT else None


def _unknown(what: str) -> Response:
    message = f"There is no such {what} on record; records are kept for the time the route says."
    return not_found(ErrorCode.RECORD_NOT_FOUND, message)


def _read_token(path: str) -> str:
    return Path(path).read_text().strip()
