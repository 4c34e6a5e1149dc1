"""How long a request may take: by the caller's own deadline, said in `x-request-timeout`, and by the spec's. Pure."""

from dataclasses import dataclass

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import PathName
from hybridroute_serve.router.backends import RESTART_SECONDS
from hybridroute_serve.routing.route_decision import RouteDecision
from hybridroute_serve.wire.asgi import Scope, find_header
from hybridroute_serve.wire.errors import InvalidRequest

__all__ = ["REQUEST_TIMEOUT_HEADER", "Patience", "path_seconds", "read_patience"]

REQUEST_TIMEOUT_HEADER = "x-request-timeout"
"""Seconds, from 0.001 to 86400, with a decimal point or without."""

_LEAST_SECONDS = 0.001
_MOST_SECONDS = 86_400.0
_LONGEST_TEXT = 16
_SLACK_SECONDS = 1.0
"""The path's own deadline comes first, with a better message."""


@dataclass(frozen=True, slots=True)
class Patience:
    """When the caller stops waiting."""

    seconds: float
    """As it said."""
    ends_at: float
    """Seconds of the monotonic clock."""

    def seconds_left(self, now: float) -> float:
        """Return what is left; never negative."""
        return max(0.0, self.ends_at - now)


def read_patience(scope: Scope, started: float) -> Patience | None:
    """Return the caller's deadline, counted from `started`; None when it named none. Raises `InvalidRequest`."""
    text = find_header(scope, REQUEST_TIMEOUT_HEADER)
    if text is None:
        return None
    try:
        # float() also takes `nan`, `1_0` and other alphabets' digits.
        plain = len(text) <= _LONGEST_TEXT and text.isascii() and "_" not in text
        seconds = float(text) if plain else 0.0
    except ValueError:
        seconds = 0.0
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        message = f"The header {REQUEST_TIMEOUT_HEADER} must be seconds, from 0.001 to 86400."
        raise InvalidRequest(REQUEST_TIMEOUT_HEADER, message)
    return Patience(seconds, started + seconds)


def path_seconds(decision: RouteDecision, policy: LivePolicy, *, stream: bool) -> float:
    """Return the longest wait for a path's headers.

    The SLM's come with a stream's first content, or with a unary answer's end. The llm-proxy may try, wait and try
    again before either, up to its longest request. Both keep their own deadlines; this one is for an
    ingress that holds a request because no replica is there. What can go elsewhere does not wait for a restart.
    """
    if decision.path is PathName.SLM:
        seconds = policy.slm.first_byte_seconds if stream else policy.slm.total_seconds
    else:
        seconds = policy.llm.longest_seconds
    return seconds + _SLACK_SECONDS + (0.0 if decision.fallbacks else RESTART_SECONDS)
