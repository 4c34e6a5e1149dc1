"""The cascade on one router replica: its part of the route's share, and one request's way through.

The share is kept by a bucket: each request of the route brings `maxShare` tokens, each escalation takes one. A share
needs no word between replicas: where each keeps it of its own requests, all keep it of all. What may be saved up is
the route's, so that it is divided by the ready replicas. For a replica's whole life

    escalations <= 1 + maxShare x requests,    and within any run of requests <= cap + maxShare x requests of the run

Where the LLM has just failed the cascade, or was not affordable, answers are not looked at for a while: a look that
can change nothing costs the client its time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from hybridroute_api.records import CascadeCheck
from hybridroute_api.serving import CascadePolicy
from hybridroute_api.vocabulary import CascadeVerdict, InternalHeader, Outcome
from hybridroute_serve.router.path_client import PathAnswer, PathFailure
from hybridroute_serve.routing.artifact.terms import ArtifactTerms
from hybridroute_serve.routing.cascade import (
    escalate,
    is_doubtful,
    is_for_cascade,
    judge_margin,
    let_stand,
    read_margin,
)
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.route_decision import RouteDecision

__all__ = ["Cascade", "CascadeDesk"]

BURST_ESCALATIONS = 10.0
"""That the whole route may have saved up: as many as a page of doubtful questions."""
PAUSE_SECONDS = 5.0
"""For which the LLM is not asked again after it could not serve."""
_WHOLE = 1.0 - 1e-9
"""A token, allowing for sums of shares that floating point leaves a little short."""


class CascadeDesk:
    """What the requests of one replica have in common. `now` is seconds of a monotonic clock."""

    def __init__(self, *, replicas: Callable[[], int]) -> None:
        """`replicas`: ready ones of the router, this one among them."""
        self._replicas = replicas
        self._tokens = 1.0
        self._failing_until = float("-inf")
        self._spent_until: dict[str | None, float] = {}

    def begin(
        self,
        policy: CascadePolicy,
        decision: RouteDecision,
        facts: RequestFacts,
        *,
        terms: ArtifactTerms | None,
        client: str | None,
        now: float,
    ) -> "Cascade | CascadeCheck | None":
        """Count a request of the route, and return what looks at its answer.

        A check in its place says why nobody looks; None: it is not for the cascade. `terms`: of the calibrated policy.
        """
        self.count_request(policy)
        if not is_for_cascade(decision, facts):
            return None
        choice = terms.margin if terms is not None else None
        threshold, why = (
            (choice.threshold, choice.why) if choice is not None else (None, "no policy is in force")
        )
        if policy.threshold is not None:
            threshold = policy.threshold
        if threshold is None:
            return CascadeCheck(CascadeVerdict.UNSET, None, detail=why)
        why_not = self.why_not(client, now)
        if why_not is not None:
            return CascadeCheck(why_not, threshold, detail="not looked at")
        return Cascade(self, threshold, policy.tokens, decision, client)

    def count_request(self, policy: CascadePolicy) -> None:
        """Count a request of the route, whatever becomes of it."""
        cap = max(1.0, BURST_ESCALATIONS / max(1, self._replicas()))
        self._tokens = min(cap, self._tokens + policy.max_share)

    def why_not(self, client: str | None, now: float) -> CascadeVerdict | None:
        """Return why an answer is not worth a look now; None when it is."""
        if now < self._failing_until:
            return CascadeVerdict.UNAVAILABLE
        if now < self._spent_until.get(client, now):
            return CascadeVerdict.UNAFFORDABLE
        self._spent_until.pop(client, None)
        return None

    def take_escalation(self) -> bool:
        """Take one out of the share, or nothing."""
        if self._tokens < _WHOLE:
            return False
        self._tokens -= 1.0
        return True

    def note_failure(self, outcome: Outcome, client: str | None, now: float) -> None:
        """Remember that the LLM could not serve what was escalated. A client's error says nothing of the next one."""
        if outcome is Outcome.UNAFFORDABLE:
            self._spent_until[client] = now + PAUSE_SECONDS
        elif outcome is not Outcome.CLIENT_ERROR:
            self._failing_until = now + PAUSE_SECONDS


@dataclass(slots=True)
class Cascade:
    """One request that the SLM is asked with a look at its answer."""

    desk: CascadeDesk
    threshold: float
    tokens: int
    """To look at."""
    kept: RouteDecision
    """The decision that keeps the request on the SLM."""
    client: str | None
    check: CascadeCheck | None = field(default=None, init=False)
    """None until the SLM has answered."""
    whole_answer: PathAnswer | None = field(default=None, init=False)
    """The SLM's, where it is at hand; a stream is given up."""

    def judge(self, answer: PathAnswer) -> RouteDecision | None:
        """Return the decision to go on with, or None: the answer stands."""
        name = InternalHeader.CASCADE_MARGIN.encode()
        said = next(
            (value.decode("latin-1") for header, value in answer.headers if header.lower() == name), None
        )
        check = read_margin(said, self.threshold)
        self.check = judge_margin(check, may_escalate=is_doubtful(check) and self.desk.take_escalation())
        if self.check.verdict is not CascadeVerdict.ESCALATED:
            return None
        self.whole_answer = answer if answer.response is None else None
        return escalate(self.kept, self.check)

    def let_stand(self, failure: PathFailure, now: float) -> RouteDecision:
        """Return the decision to go on with after the LLM could not serve: the first one, unless it is late."""
        assert self.check is not None  # noqa: S101 - only what was judged is escalated
        self.desk.note_failure(failure.outcome, self.client, now)
        return let_stand(self.kept, self.check, f"llm {failure.outcome}")
