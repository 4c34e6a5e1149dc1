"""Which path serves a request, by which gate, with which numbers. Pure: facts in, one decision out.

Gates are asked in the order of `vocabulary.Gate`; the first that has an opinion decides, and then health and
overflow may move the request to the other path. What may not be moved:

| decided by | SLM down, failing or full | LLM down | LLM unaffordable |
|---|---|---|---|
| local-only key | down: 503; else the SLM's own answer | - | - |
| mode or model name | down: 503; else the SLM's own answer | 503 | 429 |
| conversation on the SLM | LLM | - | 429 if it had moved to the LLM |
| conversation on the LLM | - | 503: the SLM is not known to be fit | `onExhaustedOutOfScope` |
| capability | - | 503: the SLM cannot serve it | 429 |
| scope, escalated | - | 503: nothing says that the SLM is fit | `onExhaustedOutOfScope` |
| scope, kept local | LLM | - | 429 if it had moved to the LLM |
| no examples or policy to score with | - | 503: nothing says that the SLM is fit | `onExhaustedOutOfScope` |
| confidence, SLM | LLM | - | 429 if it had moved to the LLM |
| confidence, LLM, a local example within the scope threshold | - | SLM | `onExhausted` |
| confidence, LLM, no such example | - | 503: nothing says that the SLM is fit | `onExhaustedOutOfScope` |
| confidence or drift, LLM, by a calibrated policy that knows it | - | SLM | `onExhausted` |
| mode Shadow on the SLM | LLM | - | 429 if it had moved to the LLM |
| mode Shadow on the LLM, the gates know the SLM fit | - | SLM | `onExhausted` |
| mode Shadow on the LLM, else | - | 503 | `onExhaustedOutOfScope` |

`Degrade` sends it to the SLM, if that is up and able; `Reject`, and `Degrade` with nowhere to go, pass the llm-proxy's
429 on with the time at which there is money again. A key that is local-only comes before everything else: what
it sends never leaves the SLM, `llm` as its model is 403, and while the mode is LLMOnly nothing serves it (503).

A path that went down only a moment ago is worth waiting for: what may not move is held for it, not refused.
A move is never silent: its gate is `health`, `overflow` or `budget`, and the reason says what was meant first. A
conversation on the SLM that has outgrown it (context, images) is decided by the capability gate.
"""

from msgspec.structs import replace

from hybridroute_api.serving import BudgetPolicy, LivePolicy, RoutingPolicy
from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import ErrorCode, ExhaustedAction, Gate, Mode, Outcome, PathName
from hybridroute_serve.routing.by_artifact import CalibratedPolicy, decide_by_artifact
from hybridroute_serve.routing.capability import incapability
from hybridroute_serve.routing.examples import Scorer, Scores
from hybridroute_serve.routing.facts import PathHealth, RequestFacts
from hybridroute_serve.routing.models import UnknownModelError, resolve_model
from hybridroute_serve.routing.route_decision import Fitness, Rejection, RouteDecision, leave_scope

__all__ = ["decide_route", "needs_scores", "plan_failover", "plan_unaffordable"]

_INABILITIES = frozenset({ErrorCode.CONTEXT_LENGTH_EXCEEDED, ErrorCode.NOT_SERVED_BY_SLM})
"""Error codes with which the SLM says that its engine cannot serve a request."""
_LONGEST_WORDS = 200
"""Characters of the SLM's own words that a reason repeats."""


def decide_route(
    request: RequestFacts,
    policy: LivePolicy,
    scorer: Scorer | CalibratedPolicy | None,
    health: PathHealth,
    standing: DriftStanding | None = None,
) -> RouteDecision:
    """Decide one request. `scorer` is None when there are no examples and no calibrated policy is in force.

    Scores are computed only when forced and capability gates have no opinion. `standing`: what the keeper says of
    drift.
    """
    forced = _force(request, policy)
    if forced is not None:
        return _settle(forced, health)
    decision = _ask_unscored(request, policy) or _ask_scores(request, policy, scorer, standing)
    if policy.mode is Mode.SHADOW:
        decision = _shadow(decision, policy.shadow_serve)
    return _settle(decision, health)


def needs_scores(request: RequestFacts, policy: LivePolicy) -> bool:
    """Tell whether `decide_route` would ask the scorer: no gate before it has an opinion."""
    return _force(request, policy) is None and _ask_unscored(request, policy) is None


def plan_failover(
    decision: RouteDecision,
    outcome: Outcome,
    error_code: str | None = None,
    error_message: str | None = None,
) -> RouteDecision | None:
    """Return the decision to go on with after the chosen path failed before any content, or None to give up.

    Only failures of the path count: a client's error would fail anywhere. What the SLM says that its engine cannot
    serve is what the capability gate would have said, had it counted tokens and known the model's template.
    `error_message`: its words for that.
    """
    if decision.path is None or not decision.fallbacks:
        return None
    on_slm = decision.path is PathName.SLM
    what = f"failed: {outcome}"
    if on_slm and error_code in _INABILITIES:
        gate = Gate.CAPABILITY
        what = f"cannot serve it: {_first_words(error_message) or error_code}"
    elif outcome not in (Outcome.THROTTLED, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT):
        return None
    else:
        gate = Gate.OVERFLOW if on_slm and outcome is Outcome.THROTTLED else Gate.HEALTH
    reason = f"{decision.path} {what}; meant for it by {decision.gate}: {decision.reason}"
    return replace(
        decision, path=decision.fallbacks[0], gate=gate, reason=reason, fallbacks=decision.fallbacks[1:]
    )


def plan_unaffordable(
    decision: RouteDecision, budget: BudgetPolicy | None, health: PathHealth, detail: str
) -> RouteDecision:
    """Return the decision by the budget gate after the dollar budget did not bear the LLM.

    Its path says what to do: SLM, go on there; LLM, pass the llm-proxy's 429 on. `detail` has the numbers.
    `budget` is None where a client's own budget is spent and the route has none: then the spec's defaults hold.
    """
    if decision.slm_fitness is Fitness.FIT:
        field, action = "onExhausted", budget.on_exhausted if budget else ExhaustedAction.DEGRADE
    else:
        field = "onExhaustedOutOfScope"
        action = budget.on_exhausted_out_of_scope if budget else ExhaustedAction.REJECT
    degraded = False
    if decision.slm_fitness is Fitness.BARRED:
        verdict = "the slm may not serve it"
    elif action is ExhaustedAction.DEGRADE and not health.slm_up:
        verdict = f"{field} {action}, but slm {health.slm_detail}"
    else:
        verdict = f"{field} {action}"
        degraded = action is ExhaustedAction.DEGRADE
    return replace(
        decision,
        path=PathName.SLM if degraded else decision.path,
        gate=Gate.BUDGET,
        reason=f"llm unaffordable: {detail}; {verdict}; meant for it by {decision.gate}: {decision.reason}",
        fallbacks=(),
    )


def _first_words(message: str | None) -> str:
    """Return what comes before the first colon: behind it an engine quotes the request, which records do not keep."""
    return (message or "").partition(": ")[0].rstrip(".")[:_LONGEST_WORDS]


def _force(request: RequestFacts, policy: LivePolicy) -> RouteDecision | None:
    """Return what no gate may change: an unknown model's refusal, a key's, the mode's or the model name's path."""
    try:
        choice = resolve_model(request.requested_model, policy.route, policy.mode, policy.slm.adapters)
    except UnknownModelError as error:
        unknown = Rejection(404, ErrorCode.MODEL_NOT_FOUND, str(error))
        return RouteDecision(None, Gate.FORCED, "model is not served", rejection=unknown)
    if request.local_only:
        return _keep_local(policy.mode, choice.path)
    if policy.mode is Mode.LOCAL_ONLY:
        return RouteDecision(PathName.SLM, Gate.FORCED, "mode LocalOnly")
    if policy.mode is Mode.LLM_ONLY:
        return RouteDecision(PathName.LLM, Gate.FORCED, "mode LLMOnly")
    if choice.path is not None:
        return RouteDecision(choice.path, Gate.FORCED, f"model {request.requested_model}")
    return None


def _keep_local(mode: Mode, asked_for: PathName | None) -> RouteDecision:
    """Return the decision for a key whose data never leaves."""
    reason = "local-only key"
    if asked_for is PathName.LLM:
        message = "this API key is local-only: what it sends never leaves the small model"
        return RouteDecision(
            None, Gate.FORCED, reason, rejection=Rejection(403, ErrorCode.LOCAL_ONLY_KEY, message)
        )
    if mode is Mode.LLM_ONLY:
        message = "the small model is switched off, and this API key is local-only"
        unavailable = Rejection(503, ErrorCode.PATH_UNAVAILABLE, message)
        return RouteDecision(None, Gate.FORCED, f"{reason}, mode {mode}", rejection=unavailable)
    return RouteDecision(PathName.SLM, Gate.FORCED, reason)


def _shadow(chosen: RouteDecision, path: PathName) -> RouteDecision:
    """Return the decision of mode Shadow: one path serves, and what the gates chose is noted.

    What the SLM cannot serve at all goes to the LLM. While the path is down the other serves what it is fit for.
    """
    noted = replace(chosen, shadow_gate=chosen.gate, shadow_path=chosen.path)
    if path is PathName.SLM and chosen.gate is Gate.CAPABILITY:
        return noted
    fit = chosen.path is PathName.SLM or PathName.SLM in chosen.fallbacks
    to_llm: tuple[PathName, ...] = (PathName.SLM,) if fit else ()
    return replace(
        noted,
        path=path,
        gate=Gate.FORCED,
        reason=f"mode Shadow; {chosen.path or 'refused'} by {chosen.gate}: {chosen.reason}",
        fallbacks=(PathName.LLM,) if path is PathName.SLM else to_llm,
        slm_fitness=Fitness.FIT if fit else chosen.slm_fitness,
        rejection=None,
    )


def _ask_unscored(request: RequestFacts, policy: LivePolicy) -> RouteDecision | None:
    """Return what the gates before the scope say of a request that nothing forces, with the fallbacks it is fit for."""
    unable = incapability(request, policy.slm)
    if request.conversation_path is PathName.LLM:
        fitness = Fitness.UNKNOWN if unable is None else Fitness.BARRED
        return RouteDecision(PathName.LLM, Gate.FORCED, "conversation", slm_fitness=fitness)
    if request.conversation_path is PathName.SLM and unable is None:
        return RouteDecision(PathName.SLM, Gate.FORCED, "conversation", fallbacks=(PathName.LLM,))
    if unable is not None:
        return RouteDecision(PathName.LLM, Gate.CAPABILITY, unable)
    return None


def _ask_scores(
    request: RequestFacts,
    policy: LivePolicy,
    scorer: Scorer | CalibratedPolicy | None,
    standing: DriftStanding | None,
) -> RouteDecision:
    """Return what scope, confidence and drift say of a request that no gate before them has an opinion of."""
    if scorer is None:
        return RouteDecision(PathName.LLM, Gate.CONFIDENCE, "no policy", slm_fitness=Fitness.UNKNOWN)
    if isinstance(scorer, CalibratedPolicy):
        return decide_by_artifact(request.text, scorer, policy.routing.out_of_scope, standing)
    return _by_examples(scorer.score_text(request.text), policy.routing)


def _by_examples(scores: Scores, routing: RoutingPolicy) -> RouteDecision:
    numbers = RouteDecision(
        None,
        Gate.CONFIDENCE,
        "",
        confidence=scores.confidence,
        threshold=routing.threshold,
        scope_score=scores.scope,
        scope_threshold=routing.scope_threshold,
        nearest=scores.nearest,
    )
    if scores.scope < routing.scope_threshold:
        return leave_scope(numbers, routing.out_of_scope)
    similar = f"local {scores.local_similarity:.3f}, remote {scores.remote_similarity:.3f}"
    if scores.confidence >= routing.threshold:
        reason = f"confidence {scores.confidence:.3f} >= {routing.threshold:.3f} ({similar})"
        return replace(numbers, path=PathName.SLM, reason=reason, fallbacks=(PathName.LLM,))
    reason = f"confidence {scores.confidence:.3f} < {routing.threshold:.3f} ({similar})"
    escalated = replace(numbers, path=PathName.LLM, reason=reason)
    # Being near to a remote example is to be known, not to be fit for the SLM.
    if scores.local_scope >= routing.scope_threshold:
        return replace(escalated, fallbacks=(PathName.SLM,), slm_fitness=Fitness.FIT)
    return replace(escalated, slm_fitness=Fitness.UNKNOWN)


def _settle(decision: RouteDecision, health: PathHealth) -> RouteDecision:
    """Move a decision off a path that is down or full where it may move, and drop fallbacks that are down."""
    if decision.path is None:
        return decision
    fallbacks = tuple(path for path in decision.fallbacks if _is_up(path, health))
    if not _is_up(decision.path, health):
        detail = health.slm_detail if decision.path is PathName.SLM else health.llm_detail
        reason = f"{decision.path} {detail}; meant for it by {decision.gate}: {decision.reason}"
        if fallbacks:
            return replace(
                decision, path=fallbacks[0], gate=Gate.HEALTH, reason=reason, fallbacks=fallbacks[1:]
            )
        if health.slm_restarting if decision.path is PathName.SLM else health.llm_restarting:
            return replace(decision, fallbacks=())
        message = f"the {decision.path} path is unavailable ({detail}) and this request may not go elsewhere"
        unavailable = Rejection(503, ErrorCode.PATH_UNAVAILABLE, message)
        return replace(
            decision, path=None, gate=Gate.HEALTH, reason=reason, fallbacks=(), rejection=unavailable
        )
    if decision.path is PathName.SLM and fallbacks and (health.slm_failing or health.slm_full):
        word, gate = ("failing", Gate.HEALTH) if health.slm_failing else ("full", Gate.OVERFLOW)
        reason = f"slm {word}; meant for it by {decision.gate}: {decision.reason}"
        return replace(decision, path=fallbacks[0], gate=gate, reason=reason, fallbacks=fallbacks[1:])
    return replace(decision, fallbacks=fallbacks)


def _is_up(path: PathName, health: PathHealth) -> bool:
    return health.slm_up if path is PathName.SLM else health.llm_up
