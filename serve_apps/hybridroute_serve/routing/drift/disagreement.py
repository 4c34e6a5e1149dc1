"""Watches how often both paths' answers to audited requests differ. Pure: state in, state out.

Charts of inputs cannot see that the same questions have come to need other answers (concept drift). An audited
request is answered by both paths, and how far apart the answers are, 0 to 1 (`comparison`), needs no label: where both
say the same, the SLM is not wrong where the LLM is right. Two answers may well differ and both be right, so the rate
itself says little, and what is tested is whether it has risen.

1. The first `BASELINE_COMPARISONS` say what is usual. They choose, from a fixed few, the cut beyond which two answers
   count as different, and bound the share of such pairs from above (Clopper and Pearson 1934, at one level for all
   cuts together).
2. Afterwards an e-process bets against "the share is at most that bound": its capital is multiplied by the likelihood
   ratio of a share that was seen lately, and of the bound. While the chance that the next pair differs, given all
   before, does not exceed the bound, the capital ever reaches 1/a with a chance of at most a (Ville 1939; Waudby-Smith
   and Ramdas 2024 on betting), so that it may be looked at after every pair. When a run of bets has lost, the next
   begins with a smaller stake; stakes add up to one, so the chance stays.

It holds because audited requests are drawn by a coin that knows nothing of the request, and so seldom that two of one
session are rare: with a share near 1, pairs of a session differ together, and each counts.
"""

import math
from dataclasses import dataclass, replace

__all__ = [
    "ALARM_E_VALUE",
    "BASELINE_COMPARISONS",
    "CUTS",
    "FALSE_ALARM",
    "DisagreementState",
    "begin_next_run",
    "disagreement_level",
    "e_value",
    "is_usual_again",
    "observe_disagreement",
]

BASELINE_COMPARISONS = 200
"""Comparisons that say what is usual. Half as many bound it so loosely that a share which rises from 10 to 30 % is
often missed; more would leave a new policy unwatched for longer."""

FALSE_ALARM = 0.02
"""Chance of ever ringing, over the whole life of an artifact, while the share stays what it was."""

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Distances beyond which two answers may count as different."""

_BOUND_DELTA = FALSE_ALARM / 2
"""Chance that the bound is too low; the other half is the e-process's."""
ALARM_E_VALUE = 2.0 / FALSE_ALARM

_WANTED_SHARE = 0.1
"""The cut is chosen so that about this share of the baseline counts as different: what is usual is near, and what is
beyond it is news."""
_MEMORY = 30.0
"""Comparisons that the next bet is sized by."""
_LONGEST_LOSS = 2.0
"""Of a run of bets, in natural logarithms, before the next begins."""
_CEILING = 2.0
_ALARM = math.log(ALARM_E_VALUE)
_BISECTIONS = 50


@dataclass(frozen=True, slots=True)
class DisagreementState:
    """Where the e-process stands. Small, and kept as JSON."""

    compared: int = 0
    """Comparisons since the artifact was put in place."""
    beyond: tuple[int, ...] = (0,) * len(CUTS)
    """Of the baseline: how many were at least as far apart as each cut."""
    cut: float | None = None
    """What counts as different from here on; None until the baseline is full."""
    bound: float | None = None
    """The share of different pairs that is usual, from above; None until the baseline is full."""
    differing: int = 0
    """Different pairs since the baseline."""
    recent_share: float = 0.0
    """Of the last comparisons, weighted by age: what the next bet is sized by."""
    runs: int = 1
    """Runs of bets, this one included; run j has 1/(j(j+1)) for a stake."""
    log_evidence: float = -math.log(2.0)
    """Natural logarithm of what this run's stake has become."""


def observe_disagreement(state: DisagreementState, disagreement: float) -> DisagreementState:
    """Return the state after one more comparison of a request that the policy keeps."""
    if state.cut is None or state.bound is None:
        return _fill_baseline(state, disagreement)
    differs = disagreement >= state.cut
    # The bet must be made before the value is seen: it hangs on earlier comparisons alone.
    share = min(max(state.recent_share, state.bound), (1.0 + state.bound) / 2.0)
    ratio = share / state.bound if differs else (1.0 - share) / (1.0 - state.bound)
    after = replace(
        state,
        compared=state.compared + 1,
        differing=state.differing + differs,
        recent_share=state.recent_share + (differs - state.recent_share) / _MEMORY,
        log_evidence=min(_CEILING * _ALARM, state.log_evidence + math.log(ratio)),
    )
    if after.log_evidence < _log_stake(after.runs) - _LONGEST_LOSS:
        return begin_next_run(after)
    return after


def is_usual_again(state: DisagreementState) -> bool:
    """Say whether the last comparisons differ no more often than is usual.

    What ends an alarm: nothing is bet while they do not, so that the evidence stays where it was.
    """
    return state.bound is None or state.recent_share <= state.bound


def begin_next_run(state: DisagreementState) -> DisagreementState:
    """Return the state with the evidence laid aside and the next run's smaller stake in its place."""
    return replace(state, runs=state.runs + 1, log_evidence=_log_stake(state.runs + 1))


def disagreement_level(state: DisagreementState) -> float:
    """Return the evidence, in logarithms, as a share of what rings: 1 and more is an alarm."""
    return max(0.0, state.log_evidence) / _ALARM


def e_value(state: DisagreementState) -> float:
    """Return the evidence itself: `ALARM_E_VALUE` and more is an alarm."""
    return math.exp(state.log_evidence)


def _log_stake(run: int) -> float:
    return -math.log(run * (run + 1))


def _fill_baseline(state: DisagreementState, disagreement: float) -> DisagreementState:
    count = state.compared + 1
    beyond = tuple(seen + (disagreement >= cut) for seen, cut in zip(state.beyond, CUTS, strict=True))
    if count < BASELINE_COMPARISONS:
        return replace(state, compared=count, beyond=beyond)
    usual, cut = min(zip(beyond, CUTS, strict=True), key=lambda row: abs(row[0] / count - _WANTED_SHARE))
    return replace(
        state,
        compared=count,
        beyond=beyond,
        cut=cut,
        bound=_upper_bound(usual, count, _BOUND_DELTA / len(CUTS)),
        recent_share=usual / count,
    )


def _upper_bound(successes: int, trials: int, delta: float) -> float:
    """Return the share that as few successes as these, or fewer, have a chance of `delta` at. Never 1."""
    low, high = successes / trials, 1.0 - 1e-6
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        tail = sum(
            math.comb(trials, count) * middle**count * (1.0 - middle) ** (trials - count)
            for count in range(successes + 1)
        )
        low, high = (middle, high) if tail > delta else (low, middle)
    return high
