"""The cost-quality curve: what other thresholds would have kept of recorded requests, and at what price."""

from hybridroute_serve.routing.artifact.promise import CertifiedPoint, PromiseTable
from hybridroute_serve.routing.outlook import RISKS, Outlook, ScoredRequest, plan_outlook


def point(threshold: float, kept: int, regret: float, upper: float) -> CertifiedPoint:
    return CertifiedPoint(threshold, kept, regret, 0.0, 0.0, {"0.1": upper})


TABLE = PromiseTable(
    100, "exact", (point(0.9, 20, 0, 0.02), point(0.7, 50, 2, 0.05), point(0.0, 100, 20, 0.3))
)
REQUESTS = (
    ScoredRequest(0.95, in_scope=True, kept=True, llm_nano_usd=None),
    ScoredRequest(0.80, in_scope=True, kept=True, llm_nano_usd=None),
    ScoredRequest(0.60, in_scope=True, kept=False, llm_nano_usd=300),
    ScoredRequest(0.99, in_scope=False, kept=False, llm_nano_usd=100),
)


def outlook(requests: tuple[ScoredRequest, ...] = REQUESTS, max_risk: float = 0.05) -> Outlook:
    return plan_outlook(requests, TABLE, delta=0.1, max_risk=max_risk, threshold=0.7)


def test_each_risk_keeps_what_its_threshold_would_have_kept() -> None:
    by_risk = {point.max_risk: point for point in outlook().points}
    assert by_risk.keys() == set(RISKS)
    strict, usual, nothing = by_risk[0.02], by_risk[0.05], by_risk[0.005]
    assert (strict.threshold, strict.kept_share, strict.llm_nano_usd) == (0.9, 0.25, 600)
    assert (usual.threshold, usual.kept_share, usual.llm_nano_usd) == (0.7, 0.5, 400)
    assert (usual.regret, usual.regret_at_most) == (0.02, 0.05)
    assert (nothing.threshold, nothing.kept_share, nothing.regret_at_most) == (None, 0.0, 0.0)
    assert nothing.llm_nano_usd == 800


def test_today_is_what_happened() -> None:
    today = outlook().today
    assert (today.max_risk, today.threshold, today.kept_share) == (0.05, 0.7, 0.5)
    assert today.llm_nano_usd == 400


def test_the_risk_in_force_is_on_the_curve() -> None:
    risks = [point.max_risk for point in outlook(max_risk=0.04).points]
    assert 0.04 in risks
    assert risks == sorted(risks, key=lambda risk: risk or 0.0)


def test_without_requests_or_bills_nothing_is_invented() -> None:
    empty = outlook(())
    assert (empty.requests, empty.today.kept_share, empty.today.llm_nano_usd) == (0, 0.0, None)
    assert all(point.llm_nano_usd is None for point in empty.points)


def test_a_threshold_by_hand_has_the_bound_of_the_next_looser_point() -> None:
    by_hand = plan_outlook(REQUESTS, TABLE, delta=0.1, max_risk=None, threshold=0.8).today
    assert (by_hand.max_risk, by_hand.regret_at_most) == (None, 0.05)
