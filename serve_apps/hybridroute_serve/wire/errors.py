"""Errors in OpenAI's shape: statuses, bodies and the event that ends a broken stream.

One function per error, so that status, type and code of each are decided in one place. No I/O.
"""

import math
from dataclasses import dataclass
from typing import Any

import msgspec

from hybridroute_api.vocabulary import ErrorCode, Header

__all__ = [
    "ErrorAnswer",
    "InvalidRequest",
    "api_key_invalid",
    "api_key_missing",
    "body_too_large",
    "budget_exhausted",
    "clients_unknown",
    "deadline_event",
    "error_event",
    "internal_error",
    "invalid_request",
    "method_not_allowed",
    "path_timeout",
    "path_unavailable",
    "rate_limited",
    "read_error_code",
    "read_error_message",
    "rejection",
    "slm_overloaded",
    "starting",
    "stream_cut_event",
    "unauthorized_internal",
    "unbounded_cost",
    "unsupported_encoding",
    "unsupported_endpoint",
    "upstream_refused",
    "upstream_throttled",
]

_INVALID = "invalid_request_error"
_SERVER = "server_error"
_RATE = "rate_limit_error"
_AUTH = "authentication_error"
_QUOTA = "insufficient_quota"

_UNKNOWN_RESET_SECONDS = 5
"""When to come back to a budget of which nobody knows the reset: the ledger is away for a restart."""


class InvalidRequest(Exception):  # noqa: N818 - the name is the one users read in the error's type
    """A request that cannot be read. `param` is OpenAI's: the wrong field, or None for the whole body."""

    def __init__(
        self, param: str | None, message: str, *, code: ErrorCode = ErrorCode.INVALID_REQUEST
    ) -> None:
        super().__init__(message)
        self.param = param
        self.message = message
        self.code = code


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """One error answer, ready to be sent."""

    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def body(self) -> bytes:
        """Encode `{"error": {...}}`."""
        return _encode(self.message, self.type, self.code, self.param)


def _encode(message: str, kind: str, code: str, param: str | None) -> bytes:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})


class _Error(msgspec.Struct):
    code: str | int | None = None
    message: Any = None


class _ErrorBody(msgspec.Struct):
    error: _Error


def read_error_code(body: bytes | None) -> str | None:
    """Read `error.code` of an OpenAI-shaped error body; None where there is none."""
    error = _read_error(body)
    return None if error is None or error.code is None else str(error.code)


def read_error_message(body: bytes | None) -> str | None:
    """Read `error.message` of an OpenAI-shaped error body; None where there is none."""
    error = _read_error(body)
    return error.message if error is not None and isinstance(error.message, str) else None


def _read_error(body: bytes | None) -> _Error | None:
    if not body:
        return None
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except msgspec.MsgspecError:
        return None


def error_event(message: str, code: str, kind: str = _SERVER) -> bytes:
    """Encode the server-sent event that tells a client that its stream ends in an error."""
    return b"data: " + _encode(message, kind, code, None) + b"\n\n"


def stream_cut_event() -> bytes:
    """Encode the event for an upstream that broke after content had been sent."""
    return error_event("The upstream broke off in the middle of the answer.", ErrorCode.STREAM_CUT)


def deadline_event() -> bytes:
    """Encode the event for a stream that the caller's own deadline ends."""
    return error_event("The request's own deadline passed in the middle of the answer.", ErrorCode.TIMEOUT)


def invalid_request(error: InvalidRequest) -> ErrorAnswer:
    """400: the body cannot be read."""
    return ErrorAnswer(400, _INVALID, error.code, error.message, error.param)


def body_too_large(limit_bytes: int) -> ErrorAnswer:
    """413, and the connection is closed: of the rest of the body no more than a bounded piece is read."""
    message = f"The request body is larger than {limit_bytes} bytes."
    return ErrorAnswer(413, _INVALID, ErrorCode.BODY_TOO_LARGE, message, headers=((b"connection", b"close"),))


def unsupported_encoding(encoding: str) -> ErrorAnswer:
    """415: compressed bodies are not unpacked."""
    message = f"Request bodies with content-encoding {encoding[:40]!r} are not accepted; send plain JSON."
    return ErrorAnswer(415, _INVALID, ErrorCode.UNSUPPORTED_ENCODING, message)


def rejection(status: int, code: ErrorCode, message: str) -> ErrorAnswer:
    """Make what the routing decision answers by itself: unknown model, out of scope, nothing left to serve."""
    kind = _SERVER if status >= 500 else _INVALID
    return ErrorAnswer(status, kind, code, message, "model" if code is ErrorCode.MODEL_NOT_FOUND else None)


def api_key_missing() -> ErrorAnswer:
    """401: the route has clients, and none can be told."""
    message = "You did not provide an API key. Send it in the header Authorization: Bearer <key>."
    headers = ((b"www-authenticate", b"Bearer"),)
    return ErrorAnswer(401, _INVALID, ErrorCode.API_KEY_MISSING, message, headers=headers)


def api_key_invalid() -> ErrorAnswer:
    """401: no client has this key. OpenAI repeats a part of it; this does not."""
    headers = ((b"www-authenticate", b'Bearer error="invalid_token"'),)
    return ErrorAnswer(
        401, _INVALID, ErrorCode.API_KEY_INVALID, "The API key is not known to this service.", headers=headers
    )


def clients_unknown() -> ErrorAnswer:
    """503: the route has clients, but this replica has not been able to read who they are."""
    message = "The service cannot check API keys at the moment."
    return ErrorAnswer(503, _SERVER, ErrorCode.STARTING, message, headers=_retry_after(1))


def rate_limited(message: str, *, retry_after_seconds: float | None) -> ErrorAnswer:
    """429: the client's own limit. None: waiting does not help."""
    if retry_after_seconds is None:
        headers: tuple[tuple[bytes, bytes], ...] = ((b"x-should-retry", b"false"),)
    else:
        headers = _retry_after(max(1, math.ceil(retry_after_seconds)))
    return ErrorAnswer(429, _RATE, ErrorCode.RATE_LIMITED, message, headers=headers)


def unsupported_endpoint(method: str, path: str, supported: tuple[str, ...]) -> ErrorAnswer:
    """404 that says what is supported."""
    shown = path if len(path) <= 100 else path[:97] + "..."
    message = f"{method} {shown} is not supported. Supported: {', '.join(supported)}."
    return ErrorAnswer(404, _INVALID, ErrorCode.NOT_SUPPORTED, message)


def method_not_allowed(method: str, path: str, allowed: str) -> ErrorAnswer:
    """405 with the method that works."""
    message = f"{path} does not take {method}; use {allowed}."
    headers = ((b"allow", allowed.encode("latin-1")),)
    return ErrorAnswer(405, _INVALID, ErrorCode.METHOD_NOT_ALLOWED, message, headers=headers)


def path_unavailable(message: str, *, retry_after_seconds: int | None = None) -> ErrorAnswer:
    """503: nothing can serve the request now."""
    return ErrorAnswer(
        503, _SERVER, ErrorCode.PATH_UNAVAILABLE, message, headers=_retry_after(retry_after_seconds)
    )


def starting() -> ErrorAnswer:
    """503: the replica has no policy yet."""
    message = "The service is starting."
    return ErrorAnswer(503, _SERVER, ErrorCode.STARTING, message, headers=_retry_after(1))


def path_timeout(message: str) -> ErrorAnswer:
    """504: an upstream took longer than its deadline allows."""
    return ErrorAnswer(504, _SERVER, ErrorCode.TIMEOUT, message)


def upstream_refused(status: int, name: str) -> ErrorAnswer:
    """Pass on a 4xx: the upstream finds the request wrong, but not in a form that can be passed on."""
    message = f"Upstream {name} refused the request with status {status}."
    return ErrorAnswer(status, _INVALID, ErrorCode.UPSTREAM_REFUSED, message)


def upstream_throttled(name: str) -> ErrorAnswer:
    """429: the upstream's own rate limit."""
    message = f"Upstream {name} serves no more requests now."
    return ErrorAnswer(429, _RATE, ErrorCode.UPSTREAM_THROTTLED, message, headers=_retry_after(1))


def budget_exhausted(message: str, *, resets_at: float | None, now_unix: float) -> ErrorAnswer:
    """429: the dollar budget does not bear the request. Nobody need try again before it resets."""
    headers = [(b"x-should-retry", b"false")]
    seconds = _UNKNOWN_RESET_SECONDS
    if resets_at is not None:
        seconds = max(1, math.ceil(resets_at - now_unix))
        headers.append((Header.RESETS_AT.encode(), str(math.ceil(resets_at)).encode()))
    return ErrorAnswer(
        429, _QUOTA, ErrorCode.BUDGET_EXHAUSTED, message, headers=(*_retry_after(seconds), *headers)
    )


def unbounded_cost(parameter: str, reason: str) -> ErrorAnswer:
    """400: what the request may cost cannot be said before it is sent, and the path is budgeted."""
    message = f"This path has a dollar budget, and the cost of the request has no upper bound: {parameter}: {reason}."
    return ErrorAnswer(400, _INVALID, ErrorCode.UNBOUNDED_COST, message, parameter)


def slm_overloaded() -> ErrorAnswer:
    """429: the replica serves as many requests as it admits."""
    message = "The small model serves as many requests as it can."
    return ErrorAnswer(429, _RATE, ErrorCode.SLM_OVERLOADED, message, headers=_retry_after(1))


def unauthorized_internal() -> ErrorAnswer:
    """401: an internal path without the internal token."""
    message = "This path is internal to the service. Send requests to the route's own URL."
    return ErrorAnswer(401, _AUTH, ErrorCode.UNAUTHORIZED_INTERNAL, message)


def internal_error() -> ErrorAnswer:
    """500: a defect of ours; the log has the request's id."""
    return ErrorAnswer(500, _SERVER, ErrorCode.INTERNAL, "The service failed. The error has been logged.")


def _retry_after(seconds: int | None) -> tuple[tuple[bytes, bytes], ...]:
    return () if seconds is None else ((b"retry-after", str(seconds).encode()),)
