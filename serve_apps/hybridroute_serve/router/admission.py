"""Who is asking, and may it ask now: the first thing that is decided of a request, before its body is read.

Answers errors in OpenAI's shape; neither an error nor a log line ever holds what was presented as a key.
"""

from collections.abc import Callable

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.auth.clients import Client
from hybridroute_serve.auth.limits import Excess, LimitKind, RateLimits
from hybridroute_serve.router.policy import ActivePolicy
from hybridroute_serve.wire.asgi import Scope, find_header
from hybridroute_serve.wire.errors import (
    ErrorAnswer,
    api_key_invalid,
    api_key_missing,
    clients_unknown,
    rate_limited,
)
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["Admission", "AdmissionError"]

_SCHEME = "bearer"


class AdmissionError(Exception):
    """The request is not let in."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.code)
        self.answer = answer


class Admission:
    """Keys and limits of one router replica."""

    def __init__(
        self, limits: RateLimits, *, replicas: Callable[[], int], monotonic_clock: Callable[[], float]
    ) -> None:
        """`replicas`: router replicas that are ready now, this one included."""
        self._limits = limits
        self._replicas = replicas
        self._clock = monotonic_clock

    def identify(self, scope: Scope, active: ActivePolicy) -> Client | None:
        """Return the client whose key came with the request; None on a route that is open to everybody.

        Raises `AdmissionError`.
        """
        if active.document.auth is None:
            return None
        if active.keyring is None:
            raise AdmissionError(clients_unknown())
        scheme, _, key = (find_header(scope, "authorization") or "").strip().partition(" ")
        if scheme.lower() != _SCHEME or not key.strip():
            raise AdmissionError(api_key_missing())
        client = active.keyring.find_client(key.strip())
        if client is None:
            raise AdmissionError(api_key_invalid())
        return client

    def count_request(self, client: Client | None) -> None:
        """Count a request against its client's limit. Raises `AdmissionError`."""
        if client is not None:
            self._check(self._limits.admit_request(client, self._clock(), replicas=self._shares()))

    def count_tokens(self, client: Client | None, request: ParsedRequest, policy: LivePolicy) -> None:
        """Count the most tokens that a request may use. Raises `AdmissionError`."""
        if client is not None:
            cap = request.max_output_tokens or policy.llm.primary.max_output_tokens
            tokens = request.estimated_prompt_tokens + request.choices * cap
            self._check(self._limits.admit_tokens(client, tokens, self._clock(), replicas=self._shares()))

    def headers(self, client: Client | None) -> list[tuple[bytes, bytes]]:
        """Return the rate-limit headers of an answer to this client; none for one without limits."""
        if client is None:
            return []
        return self._limits.headers(client, self._clock(), replicas=self._shares())

    def _shares(self) -> int:
        # A replica that serves is there, whatever the ingress has counted so far.
        return self._replicas() or 1

    def _check(self, excess: Excess | None) -> None:
        if excess is None:
            return
        unit = "requests" if excess.kind is LimitKind.REQUESTS else "tokens"
        message = f"This API key may use {excess.per_minute} {unit} per minute"
        if excess.retry_after_seconds is None:
            message += f", and the request may use {excess.asked}"
        raise AdmissionError(rate_limited(f"{message}.", retry_after_seconds=excess.retry_after_seconds))
