"""Hands a request to a path and says how it went until the first byte that counts.

A path application holds its headers until its answer is committed, so a 2xx here means that content has begun. Anything
else before that is a failure with an `Outcome`: from our own application (it names the outcome in a header) or from the
ingress between (plain text: its 502, 503 and 504 become a plain 500; 404 before the route table is known; 408).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, nullcontext

import aiohttp
import msgspec

from hybridroute_api.vocabulary import InternalHeader, Outcome, PathName
from hybridroute_serve.router.recall import Recall, RecalledError
from hybridroute_serve.turning_session import TurningSession
from hybridroute_serve.upstream.bodies import as_payload, read_answer
from hybridroute_serve.wire.answers import InvalidAnswerError

__all__ = ["PathAnswer", "PathClient", "PathFailure"]

_CONNECT_SECONDS = 2.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)


class PathFailure(msgspec.Struct, frozen=True):
    """The path could not serve, and nothing has reached the client."""

    outcome: Outcome
    status: int
    detail: str
    body: bytes | None = None
    """The path's own OpenAI-shaped error, to be passed on if nothing else can serve; None: make one."""
    headers: tuple[tuple[bytes, bytes], ...] = ()


class PathAnswer(msgspec.Struct, frozen=True):
    """A committed answer. Exactly one of `body` (unary) and `response` (stream) is set."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes | None = None
    response: aiohttp.ClientResponse | None = None


class PathClient:
    """Sends requests to the two path applications. One pool of connections for both."""

    def __init__(self, sessions: TurningSession, base_urls: Mapping[PathName, str], token: str) -> None:
        self._sessions = sessions
        self._base_urls = base_urls
        self._token = token
        self._estranged: set[PathName] = set()
        """Paths for which something else answered last: a connection to it may lead elsewhere for as long as it lives,
        such as to an ingress that is being replaced.
        """

    @asynccontextmanager
    async def send_request(
        self,
        path: PathName,
        operation: str,
        body: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        internal: Mapping[InternalHeader, str],
        stream: bool,
        first_byte_seconds: float,
        recall: Recall | None = None,
    ) -> AsyncIterator[PathAnswer | PathFailure]:
        """Send and wait until the path has committed or failed; the connection closes with the context.

        `operation` is the path below the base, such as `/v1/chat/completions`. `internal` comes on top of `headers`.
        `recall`: who may call the request back while it waits, if it may go elsewhere.
        """
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
        sent.update({name.value: value for name, value in internal.items()})
        sent[InternalHeader.TOKEN] = self._token
        sent.setdefault("content-type", "application/json")
        if path in self._estranged:
            sent["connection"] = "close"
        response: aiohttp.ClientResponse | None = None
        async with self._sessions.borrow() as session:
            try:
                try:
                    deadline = asyncio.timeout(first_byte_seconds)
                    with recall.waiting(deadline) if recall is not None else nullcontext():
                        async with deadline:
                            response = await session.post(
                                self._base_urls[path] + operation,
                                data=as_payload(body),
                                headers=sent,
                                allow_redirects=False,
                                timeout=_TIMEOUT,
                            )
                            self._note_who_answers(path, response)
                            outcome = await _read_head(path, response, stream=stream)
                except RecalledError:
                    outcome = PathFailure(Outcome.UPSTREAM_ERROR, 503, f"{path} has no replica left")
                except aiohttp.ConnectionTimeoutError:
                    outcome = PathFailure(
                        Outcome.UPSTREAM_ERROR, 503, f"{path} took no connection in {_CONNECT_SECONDS:g} s"
                    )
                except TimeoutError:
                    outcome = PathFailure(
                        Outcome.TIMEOUT, 504, f"{path} gave no answer in {first_byte_seconds:.3g} s"
                    )
                except (aiohttp.ClientError, InvalidAnswerError):
                    outcome = PathFailure(Outcome.UPSTREAM_ERROR, 503, f"{path} broke off")
                yield outcome
            finally:
                if response is not None:
                    response.close()

    def _note_who_answers(self, path: PathName, response: aiohttp.ClientResponse) -> None:
        if response.status < 400 or InternalHeader.FAILURE in response.headers:
            self._estranged.discard(path)
        else:
            self._estranged.add(path)


async def _read_head(
    path: PathName, response: aiohttp.ClientResponse, *, stream: bool
) -> PathAnswer | PathFailure:
    headers = tuple(response.raw_headers)
    said = response.headers.get(InternalHeader.FAILURE)
    if response.status < 400 and stream:
        return PathAnswer(response.status, headers, response=response)
    body = await read_answer(response)
    if response.status < 400:
        return PathAnswer(response.status, headers, body=body)
    if said is not None:
        return PathFailure(
            Outcome(said), response.status, f"{path} answered {response.status}", body, headers
        )
    # Not one of ours: HAProxy or Serve answered for an application that could not.
    outcome = Outcome.TIMEOUT if response.status == 408 else Outcome.UPSTREAM_ERROR
    return PathFailure(outcome, 503, f"{path} has no replica that answers (ingress said {response.status})")
