"""Watches how far both paths' answers to audited requests are apart. Pure: state in, state out.

Charts of inputs cannot see that the same questions have come to need other answers (concept drift). An audited
request is answered by both paths, and their disagreement, 0 to 1, needs no label: where the answers agree, the SLM
is not wrong where the LLM is right.

The first `BASELINE_COMPARISONS` set an upper bound on the mean disagreement as it was when the artifact was put in
place (empirical Bernstein; Maurer and Pontil 2009, theorem 4). Afterwards an e-process bets against "the mean is at
most that bound", and begins again whenever it falls below 1 (an e-detector of the CUSUM kind; Shin, Ramdas and Rinaldo
2023): while the bound holds, one false alarm in `1 / FALSE_ALARMS` comparisons or fewer, whatever their distribution.
It is valid because audited requests are drawn by a coin that knows nothing of the request.
"""

import math
from dataclasses import dataclass

__all__ = [
    "BASELINE_COMPARISONS",
    "FALSE_ALARMS",
    "DisagreementState",
    "disagreement_level",
    "observe_disagreement",
]

BASELINE_COMPARISONS = 100
"""Comparisons of kept requests that say what is usual: the bound is then 0.1 to 0.2 above the mean."""

FALSE_ALARMS = 1e-4
"""Of one comparison, while the bound holds."""

_BOUND_DELTA = 0.05
"""Chance that the bound is too low."""
_MEMORY = 30.0
"""Comparisons that the next bet is sized by."""
_LARGEST_BET = 0.5
"""Of what a bet could lose at worst."""
_CEILING = 2.0
_ALARM = -math.log(FALSE_ALARMS)


@dataclass(frozen=True, slots=True)
class DisagreementState:
    """Where the e-process stands. Small, and kept as JSON."""

    compared: int = 0
    """Comparisons since the artifact was put in place."""
    total: float = 0.0
    total_squares: float = 0.0
    """Sums over the baseline's comparisons."""
    bound: float | None = None
    """The mean disagreement that is usual, from above; None until the baseline is full."""
    recent_mean: float = 0.0
    recent_variance: float = 0.0
    """Of the last comparisons, weighted by age: what the next bet is sized by."""
    log_evidence: float = 0.0
    """Logarithm of the e-process, never below 0."""


def observe_disagreement(state: DisagreementState, disagreement: float) -> DisagreementState:
    """Return the state after one more comparison of a request that the policy kept on the SLM."""
    value = min(1.0, max(0.0, disagreement))
    if state.bound is None:
        return _fill_baseline(state, value)
    edge = state.recent_mean - state.bound
    # The bet must be made before the value is seen: it hangs on earlier comparisons alone.
    bet = max(0.0, edge / (state.recent_variance + edge * edge)) if edge > 0.0 else 0.0
    bet = min(bet, _LARGEST_BET / state.bound)
    log_evidence = state.log_evidence + math.log1p(bet * (value - state.bound))
    change = value - state.recent_mean
    return DisagreementState(
        compared=state.compared + 1,
        total=state.total,
        total_squares=state.total_squares,
        bound=state.bound,
        recent_mean=state.recent_mean + change / _MEMORY,
        recent_variance=(1.0 - 1.0 / _MEMORY) * (state.recent_variance + change * change / _MEMORY),
        log_evidence=min(_CEILING * _ALARM, max(0.0, log_evidence)),
    )


def disagreement_level(state: DisagreementState) -> float:
    """Return the evidence as a share of what rings: 1 and more is an alarm."""
    return state.log_evidence / _ALARM


def _fill_baseline(state: DisagreementState, value: float) -> DisagreementState:
    count = state.compared + 1
    total, squares = state.total + value, state.total_squares + value * value
    if count < BASELINE_COMPARISONS:
        return DisagreementState(compared=count, total=total, total_squares=squares)
    mean = total / count
    variance = max(0.0, squares - count * mean * mean) / (count - 1)
    log = math.log(2.0 / _BOUND_DELTA)
    bound = mean + math.sqrt(2.0 * variance * log / count) + 7.0 * log / (3.0 * (count - 1))
    return DisagreementState(
        compared=count,
        total=total,
        total_squares=squares,
        bound=min(bound, 1.0 - 1e-6),
        recent_mean=mean,
        recent_variance=variance,
    )
