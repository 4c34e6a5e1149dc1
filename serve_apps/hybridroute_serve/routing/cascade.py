"""The cascade's decisions: which requests it looks at, and what an answer's margin makes of them. Pure.

The SLM has answered, and nothing has been sent. Where it was not sure of its first tokens the LLM answers in its
place: for quality, so the dollar budget pays for it and the retry budget does not. Where the LLM then cannot, the
SLM's answer stands, by the gate that kept it there.
"""

from msgspec.structs import replace

from hybridroute_api.records import CascadeCheck
from hybridroute_api.vocabulary import CascadeVerdict, Gate, PathName
from hybridroute_serve.routing.facts import RequestFacts
from hybridroute_serve.routing.route_decision import Fitness, RouteDecision

__all__ = [
    "describe_check",
    "escalate",
    "is_doubtful",
    "is_for_cascade",
    "judge_margin",
    "let_stand",
    "read_margin",
]

_KEEPING = frozenset({Gate.CONFIDENCE, Gate.SCOPE})
"""Gates that keep a request because the SLM is thought fit for it, and not because it must or there is no other."""


def is_for_cascade(decision: RouteDecision, facts: RequestFacts) -> bool:
    """Tell whether the SLM's answer is looked at: one plain text, kept by its merits, that the LLM could give too.

    Tools and formats are left out: an engine that is held to a grammar is told of by the model's own probabilities,
    which say how much it would have liked to write something else.
    """
    kept = decision.path is PathName.SLM and decision.gate in _KEEPING
    return kept and PathName.LLM in decision.fallbacks and facts.plain and not facts.tools


def read_margin(said: str | None, threshold: float) -> CascadeCheck:
    """Return what the SLM's header says, not judged yet: unscored where it has no margin."""
    margin, _, tokens = (said or "").partition(" ")
    try:
        return CascadeCheck(CascadeVerdict.PASSED, threshold, float(margin), int(tokens))
    except ValueError:
        return CascadeCheck(CascadeVerdict.UNSCORED, threshold, detail=said or "no margin was sent")


def judge_margin(check: CascadeCheck, *, may_escalate: bool) -> CascadeCheck:
    """Return the verdict. `may_escalate`: the route's share is not used up."""
    if not is_doubtful(check):
        return check
    verdict = CascadeVerdict.ESCALATED if may_escalate else CascadeVerdict.CAPPED
    return replace(check, verdict=verdict)


def is_doubtful(check: CascadeCheck) -> bool:
    """Tell whether the margin is below the threshold."""
    return check.margin is not None and check.threshold is not None and check.margin < check.threshold


def escalate(kept: RouteDecision, check: CascadeCheck) -> RouteDecision:
    """Return the decision for the LLM that takes the place of the one that kept the request on the SLM."""
    reason = f"{_numbers(check)}; kept on the slm by {kept.gate}: {kept.reason}"
    return replace(
        kept,
        path=PathName.LLM,
        gate=Gate.CASCADE,
        reason=reason,
        fallbacks=(PathName.SLM,),
        slm_fitness=Fitness.FIT,
    )


def let_stand(kept: RouteDecision, check: CascadeCheck, why: str) -> RouteDecision:
    """Return the decision that kept the request, which holds after all. `why`: what became of the LLM."""
    return replace(kept, reason=f"{kept.reason}; {_numbers(check)}, but {why}", fallbacks=())


def describe_check(check: CascadeCheck) -> str:
    """Return it in one line: `escalated: margin 0.412 < 0.600 over 16 tokens`."""
    if check.margin is None:
        return f"{check.verdict}: {check.detail}"
    return f"{check.verdict}: {_numbers(check)}"


def _numbers(check: CascadeCheck) -> str:
    assert check.margin is not None  # noqa: S101 - only answers with a margin are judged by it
    sign = "<" if is_doubtful(check) else ">="
    return f"margin {check.margin:.3f} {sign} {check.threshold:.3f} over {check.tokens} tokens"
