"""What an attempt's failure means before anything has reached the client: its outcome, its answer, how long to wait.

One table for all upstreams; what may follow an outcome is `retries.attempts`' table. Pure.
"""

from dataclasses import dataclass

from hybridroute_api.vocabulary import InternalHeader, Outcome
from hybridroute_serve.retries.backoff import parse_retry_after
from hybridroute_serve.wire.errors import (
    ErrorAnswer,
    path_timeout,
    path_unavailable,
    upstream_refused,
    upstream_throttled,
)
from hybridroute_serve.wire.headers import headers_from_provider

__all__ = ["AttemptFailure", "classify_status", "transport_failure"]

_RawHeaders = tuple[tuple[bytes, bytes], ...]

_OUR_CONFIGURATION = frozenset({401, 402, 403, 404, 405, 407})
"""Statuses that speak of our key, account or URL at the upstream, not of the client's request."""
_MAY_PASS = frozenset({408, 429})
"""Of the statuses below 500, those that the same upstream may not answer a second time."""


@dataclass(frozen=True, slots=True)
class AttemptFailure:
    """One attempt that failed while another could still take over."""

    outcome: Outcome
    answer: ErrorAnswer
    """What the caller gets if nothing else serves."""
    detail: str
    """For the log: status or error class, never an upstream's text."""
    upstream_status: int | None = None
    upstream_body: bytes | None = None
    """A refusal of the request in the upstream's own words, which replaces the answer's body."""
    fault_body: bytes | None = None
    """What came with a 500. It is not passed on: only our own engine's dialect can tell what it is about."""
    upstream_headers: _RawHeaders = ()
    may_pass: bool = True
    """False: this upstream will fail this request again, whenever it is asked; another may serve it."""
    retry_after_seconds: float | None = None
    """How long the upstream has asked to be left alone."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the answer's headers: the outcome for the router, and the upstream's that may pass."""
        passed = [header for header in self.upstream_headers if header[0] != b"content-type"]
        named = {name for name, _ in passed}
        own = [header for header in self.answer.headers if header[0] not in named]
        return [*own, *passed, (InternalHeader.FAILURE.encode(), self.outcome.encode())]


def transport_failure(outcome: Outcome, detail: str, *, name: str, may_pass: bool = True) -> AttemptFailure:
    """Make the failure of an attempt that got no usable answer."""
    if outcome is Outcome.TIMEOUT:
        answer = path_timeout(f"Upstream {name} gave no answer in time.")
    else:
        answer = path_unavailable(f"Upstream {name} is not available.")
    return AttemptFailure(outcome=outcome, answer=answer, detail=detail, may_pass=may_pass)


def classify_status(
    status: int, headers: _RawHeaders, body: bytes, *, is_json_object: bool, name: str, now_unix: float
) -> AttemptFailure:
    """Make the failure that a status other than 2xx means."""
    passed = tuple(headers_from_provider(headers))
    waits = any(key == b"retry-after" for key, _ in passed)
    outcome = _judge(status, waits=waits)
    upstream_body = None
    if outcome is Outcome.CLIENT_ERROR:
        answer = upstream_refused(status, name)
        upstream_body = body if is_json_object else None
    elif outcome is Outcome.TIMEOUT:
        answer = path_timeout(f"Upstream {name} gave no answer in time.")
    elif status == 429:
        answer = upstream_throttled(name)
    else:
        answer = path_unavailable(f"Upstream {name} is not available.")
    return AttemptFailure(
        outcome=outcome,
        answer=answer,
        detail=f"status {status}",
        upstream_status=status,
        upstream_body=upstream_body,
        fault_body=body if status == 500 and is_json_object else None,
        upstream_headers=passed,
        may_pass=status >= 500 or status in _MAY_PASS,
        retry_after_seconds=_read_retry_after(passed, now_unix),
    )


def _judge(status: int, *, waits: bool) -> Outcome:
    if status in (429, 529) or (status == 503 and waits):
        return Outcome.THROTTLED
    if status == 408:
        return Outcome.TIMEOUT
    if 400 <= status < 500 and status not in _OUR_CONFIGURATION:
        return Outcome.CLIENT_ERROR
    return Outcome.UPSTREAM_ERROR


def _read_retry_after(headers: _RawHeaders, now_unix: float) -> float | None:
    said = {name: value.decode("latin-1") for name, value in headers}
    milliseconds = parse_retry_after(said.get(b"retry-after-ms"), now_unix)
    if milliseconds is not None:
        return milliseconds / 1000
    return parse_retry_after(said.get(b"retry-after"), now_unix)
