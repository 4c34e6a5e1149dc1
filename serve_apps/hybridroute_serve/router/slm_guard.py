"""What the SLM's own answers say of it, beside what the ingress counts: failing, or full.

Without this, each request that a full or failing SLM turns away takes a retry token on its way to the LLM, and a
crowd of them would empty the retry budget while the LLM is well. With it, what may go elsewhere goes there at once,
as a first attempt, which costs no token; a real request finds out whether the SLM is back.
"""

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.retries.breaker import Admission, Breaker, Permit, Verdict

__all__ = ["SlmGuard"]

_FAILURES = frozenset({Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT})
_FULL_SECONDS = 1.0
"""What the SLM says in `Retry-After` when it is full."""
_NO_TOKENS_NEEDED = float("inf")
"""The retry bucket is the llm-proxy's: here the breaker goes by failures alone."""


class SlmGuard:
    """One router replica's view of the SLM. `now` is seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._breaker = Breaker()
        self._full_until = float("-inf")

    def is_failing(self, now: float) -> bool:
        """Whether its last answers were failures, and it is not time yet to try again."""
        return self._breaker.offer(now) is Admission.REFUSE

    def is_full(self, now: float) -> bool:
        """Whether it has said within the last second that it serves as many as it can."""
        return now < self._full_until

    def begin(self, now: float) -> Permit | None:
        """Note a request that is sent to it. None: it has nowhere else to go, and what it meets is not counted."""
        return self._breaker.admit(now, first=True)

    def end(self, permit: Permit | None, outcome: Outcome | None, now: float) -> None:
        """Note how it went until the first content; None: nobody waited for that."""
        if outcome is Outcome.THROTTLED:
            self._full_until = now + _FULL_SECONDS
        if permit is None:
            return
        verdict = Verdict.FAILURE if outcome in _FAILURES else Verdict.SUCCESS
        self._breaker.record(
            permit,
            Verdict.NEUTRAL if outcome is None else verdict,
            now,
            alternative=True,
            tokens=_NO_TOKENS_NEEDED,
        )
