"""Leave that was not used."""

from hybridroute_serve.retries.attempts import AttemptKind
from hybridroute_serve.retries.breaker import Admission, BreakerState
from hybridroute_serve.upstream.guard import UpstreamGuard
from hybridroute_serve.upstream.ticket import AttemptTicket
from support.clocks import TurnedClock
from support.dollars import ScriptedAccounts
from support.policies import a_policy


async def test_what_an_attempt_was_given_comes_back_once_if_it_was_never_begun() -> None:
    clock = TurnedClock()
    guard = UpstreamGuard(monotonic_clock=clock, random=lambda: 0.5)
    accounts = ScriptedAccounts(balance_nano_usd=100)
    upstreams = guard.follow(a_policy().llm)
    primary = upstreams.find("primary")
    primary.breaker.open_as_told(clock())
    clock.now += 2.0
    await accounts.reserve("hr-1/llm/1", None, 60)
    permit = primary.breaker.admit(clock(), first=True)
    assert permit is not None
    assert permit.probe
    assert primary.breaker.offer(clock()) is Admission.REFUSE

    ticket = AttemptTicket(
        number=1,
        kind=AttemptKind.FIRST,
        upstream=primary,
        permit=permit,
        guard=guard,
        upstreams=upstreams,
        accounts=accounts,
        reservation=accounts.reserved[0],
        patience_ends_at=None,
        note_end=lambda _ended, _end: None,
    )
    ticket.abandon()
    ticket.abandon()

    assert accounts.released == ["hr-1/llm/1"]
    assert accounts.balance_nano_usd == 100
    assert primary.breaker.state(clock()) is BreakerState.HALF_OPEN
    assert primary.breaker.offer(clock()) is Admission.PROBE
