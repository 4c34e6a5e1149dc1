"""One upstream's breaker in one replica: closed, open, half-open.

It sees every attempt, streams included, and opens while the replica can still pay for the failure that opened
it; from then on *first* attempts go straight to the next healthy upstream or path, which costs no retry token.
It opens on consecutive failures, on the share of failures in a window, when tokens run low on the first failure
that would take the last of them, and when as many attempts as would open it by failing wait in vain. With nowhere
else to send requests it is patient: refusing them all is worse than half of them failing. After a while it lets one
real first attempt through (half-open); extra attempts never probe. Results of attempts that started before its last
change of state are not counted.
Not here: which outcome is a failure (`attempts.rule_for`). Pure; times are seconds of the monotonic clock.
"""

import itertools
import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import msgspec

__all__ = ["Admission", "Breaker", "BreakerSettings", "BreakerState", "OpeningCause", "Permit", "Verdict"]


class BreakerState(StrEnum):
    """As status and metrics show it."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    """The next first attempt is a probe, or one is on its way."""


class OpeningCause(StrEnum):
    """Why it opened, as status and logs say it."""

    FAILURES = "failures in a row"
    SHARE = "half of its attempts failed"
    TOKENS = "a failure when retry tokens were low"
    SILENCE = "no answers"
    TOLD = "other replicas left it"


class Admission(StrEnum):
    """What an upstream would do with an attempt now."""

    PASS = "pass"  # noqa: S105 - no secret
    PROBE = "probe"
    """It would take one first attempt, to see whether it is back."""
    REFUSE = "refuse"


class Verdict(StrEnum):
    """What an attempt's outcome says of its upstream."""

    SUCCESS = "success"
    FAILURE = "failure"
    NEUTRAL = "neutral"
    """Says nothing: the client went away, or nothing was sent."""


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When it opens, and for how long."""

    consecutive_failures: int = 5
    """Below the share of `burst` of one of eight replicas, 12."""
    lone_consecutive_failures: int = 20
    """The same when there is nowhere else to go."""
    window_seconds: float = 10.0
    window_attempts: int = 10
    """Fewer in the window say nothing about the share that fails."""
    window_failure_share: float = 0.5
    open_seconds: float = 1.0
    """Doubles with each failed probe, unless requests have nowhere else to go."""
    max_open_seconds: float = 5.0
    """A failed probe costs a token; one from each replica in so long is less than the floor brings in."""
    overdue_seconds: float = 30.0
    """One that might have been probed for so long is probed without a token in hand: some routes never have one."""
    max_retry_after_seconds: float = 30.0
    """How long it stays open at most because the upstream has named a time."""
    sighting_seconds: float = 30.0
    """For how long what it has seen is worth telling others, and keeps it from believing them."""
    probe_seconds: float = 120.0
    """A probe that has not been heard of for so long is given up."""


class Permit(msgspec.Struct, frozen=True):
    """Leave to send one attempt; every permit is brought back with `record`."""

    number: int
    generation: int
    probe: bool


class Breaker:
    """The breaker of one upstream."""

    __slots__ = (
        "_cause",
        "_consecutive",
        "_generation",
        "_is_silent",
        "_numbers",
        "_open_for",
        "_open_until",
        "_opened",
        "_probed_at",
        "_saw_at",
        "_settings",
        "_state",
        "_unanswered",
        "_window",
        "_window_failures",
    )

    def __init__(self, settings: BreakerSettings | None = None) -> None:
        self._settings = settings or BreakerSettings()
        self._state = BreakerState.CLOSED
        self._generation = 0
        self._consecutive = 0
        self._window: deque[tuple[float, bool]] = deque()
        self._window_failures = 0
        self._open_for = self._settings.open_seconds
        self._open_until = 0.0
        self._probed_at: float | None = None
        self._saw_at = -math.inf
        self._opened = 0
        self._cause: OpeningCause | None = None
        self._numbers = itertools.count()
        self._unanswered: dict[int, float] = {}
        """When those attempts were sent that are under way, and after which no answer has come from the upstream."""
        self._is_silent = False
        """It is open for that alone."""

    @property
    def opened(self) -> int:
        """How often it opened."""
        return self._opened

    @property
    def cause(self) -> OpeningCause | None:
        """Why it is not closed; None while it is."""
        return None if self._state is BreakerState.CLOSED else self._cause

    def state(self, now: float) -> BreakerState:
        """Return the state."""
        if self._state is BreakerState.OPEN and now >= self._open_until:
            return BreakerState.HALF_OPEN
        return self._state

    def offer(self, now: float) -> Admission:
        """Say what an attempt would meet, without sending one."""
        if self._state is BreakerState.CLOSED:
            return Admission.PASS
        match self.state(now):
            case BreakerState.HALF_OPEN if not self._is_probed(now):
                return Admission.PROBE
            case _:
                return Admission.REFUSE

    def admit(self, now: float, *, first: bool) -> Permit | None:
        """Let an attempt through, or not. Only a *first* attempt can be the probe."""
        match self.offer(now):
            case Admission.PASS:
                return self._permit(now, probe=False)
            case Admission.PROBE if first:
                self._state = BreakerState.HALF_OPEN
                self._generation += 1
                self._probed_at = now
                return self._permit(now, probe=True)
            case _:
                return None

    def saw_content(self, permit: Permit) -> None:
        """Take an answer's first content: a probe has passed, though the end is still to come."""
        self._hear()
        if permit.probe and permit.generation == self._generation and self._state is BreakerState.HALF_OPEN:
            self._close()

    def record(
        self,
        permit: Permit,
        verdict: Verdict,
        now: float,
        *,
        alternative: bool,
        tokens: float,
        weight: float = 1.0,
        retry_after_seconds: float = 0.0,
    ) -> None:
        """Take one attempt's end.

        `alternative`: first attempts have another upstream or path to go to. `tokens`: in the retry bucket
        before this failure is paid for; `weight`: what that takes. `retry_after_seconds`: as the upstream asked.
        """
        if verdict is Verdict.SUCCESS:
            self._hear()
        else:
            self._unanswered.pop(permit.number, None)
        if permit.generation != self._generation:
            return
        if verdict is not Verdict.NEUTRAL:
            self._saw_at = now
        if self._state is BreakerState.HALF_OPEN:
            self._end_probe(verdict, now, retry_after_seconds, alternative=alternative)
        elif self._state is BreakerState.CLOSED and verdict is not Verdict.NEUTRAL:
            failed = verdict is Verdict.FAILURE
            self._consecutive = self._consecutive + 1 if failed else 0
            self._add_to_window(now, failed)
            cause = self._judge(alternative=alternative, tokens=tokens, weight=weight) if failed else None
            if cause is not None:
                self._cause = cause
                self._open(now, retry_after_seconds)

    def silent_seconds(self, now: float) -> float:
        """Return for how long as many attempts have waited in vain as would open it by failing; 0 if fewer do."""
        if (
            self._state is not BreakerState.CLOSED
            or len(self._unanswered) < self._settings.consecutive_failures
        ):
            return 0.0
        latest = next(
            itertools.islice(self._unanswered.values(), self._settings.consecutive_failures - 1, None)
        )
        return now - latest

    def open_for_silence(self, now: float) -> None:
        """Open because what was sent is not answered: first attempts need not wait until that has failed.

        Any answer closes it, also to what was sent before.
        """
        self._saw_at = now
        self._cause = OpeningCause.SILENCE
        self._open(now, 0.0)
        self._is_silent = True

    def has_seen(self, now: float) -> bool:
        """Say whether its state is what it has lately seen itself."""
        return now < self._saw_at + self._settings.sighting_seconds

    def open_as_told(self, now: float) -> None:
        """Open because other replicas have, unless it has seen for itself: a new one has no tokens to find out."""
        if self._state is BreakerState.CLOSED and not self.has_seen(now):
            self._cause = OpeningCause.TOLD
            self._open(now, 0.0)

    def is_overdue(self, now: float) -> bool:
        """Say whether it would take a probe, and has waited for one for long."""
        return self.offer(now) is Admission.PROBE and now >= self._open_until + self._settings.overdue_seconds

    def reopens_in(self, now: float) -> float:
        """Seconds until it may let a first attempt through; 0 when it would now."""
        if self._state is BreakerState.OPEN:
            return max(0.0, self._open_until - now)
        return 0.0 if self.offer(now) is not Admission.REFUSE else self._settings.open_seconds

    def _hear(self) -> None:
        self._unanswered.clear()
        if self._is_silent:
            self._close()

    def _permit(self, now: float, *, probe: bool) -> Permit:
        number = next(self._numbers)
        self._unanswered[number] = now
        return Permit(number, self._generation, probe)

    def _is_probed(self, now: float) -> bool:
        return self._probed_at is not None and now < self._probed_at + self._settings.probe_seconds

    def _judge(self, *, alternative: bool, tokens: float, weight: float) -> OpeningCause | None:
        """Say why a failure opens it; None when it does not."""
        if not alternative:
            patience = self._settings.lone_consecutive_failures
            return OpeningCause.FAILURES if self._consecutive >= patience else None
        if self._consecutive >= self._settings.consecutive_failures:
            return OpeningCause.FAILURES
        # This failure takes `weight`; another like it could not be paid for.
        if tokens < 2 * weight:
            return OpeningCause.TOKENS
        known = len(self._window) >= self._settings.window_attempts
        if known and self._window_failures >= self._settings.window_failure_share * len(self._window):
            return OpeningCause.SHARE
        return None

    def _add_to_window(self, now: float, failed: bool) -> None:
        self._window.append((now, failed))
        self._window_failures += failed
        while self._window[0][0] <= now - self._settings.window_seconds:
            self._window_failures -= self._window.popleft()[1]

    def _open(self, now: float, retry_after_seconds: float) -> None:
        self._state = BreakerState.OPEN
        self._generation += 1
        self._opened += 1
        self._probed_at = None
        self._is_silent = False
        self._unanswered.clear()
        wait_seconds = max(self._open_for, min(retry_after_seconds, self._settings.max_retry_after_seconds))
        self._open_until = now + wait_seconds

    def _end_probe(
        self, verdict: Verdict, now: float, retry_after_seconds: float, *, alternative: bool
    ) -> None:
        if verdict is Verdict.SUCCESS:
            self._close()
        elif verdict is Verdict.FAILURE:
            if alternative:
                self._open_for = min(self._open_for * 2, self._settings.max_open_seconds)
            self._open(now, retry_after_seconds)
        else:
            self._probed_at = None

    def _close(self) -> None:
        self._state = BreakerState.CLOSED
        self._is_silent = False
        self._probed_at = None
        self._consecutive = 0
        self._window.clear()
        self._window_failures = 0
        self._open_for = self._settings.open_seconds
