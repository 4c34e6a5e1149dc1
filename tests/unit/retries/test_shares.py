"""How shares move: newcomers wait for the others, the dead for their leases, and then everybody has its part."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hybridroute_serve.retries.shares import HeldShare, Share, ShareBook, ShareGrant, ShareRequest, ShareTerms

TERMS = ShareTerms(lease_seconds=9.0, margin_seconds=1.0, hasten_seconds=0.5)
TOTALS = Share(1.0, 100.0)


class Asking:
    """A replica that asks when it was told to, over a perfect network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sequence = 0
        self.grant: ShareGrant | None = None
        self.next_at = 0.0

    def ask(self, book: ShareBook, now: float) -> ShareGrant:
        self.sequence += 1
        held = HeldShare(self.grant.serial, self.grant.share) if self.grant is not None else None
        grant = book.renew(ShareRequest(self.name, self.sequence, held), now)
        assert grant is not None
        self.grant = grant
        self.next_at = now + grant.renew_after_seconds
        return grant


def fresh_book(totals: Share = TOTALS, *, quarantine_seconds: float = 0.0) -> ShareBook:
    return ShareBook(totals, TERMS, epoch=1, now=0.0, quarantine_seconds=quarantine_seconds)


def run_until(book: ShareBook, replicas: list[Asking], start: float, end: float) -> None:
    now = start
    while now <= end:
        for replica in replicas:
            if replica.next_at <= now:
                replica.ask(book, now)
        now += 0.1


def test_a_lone_replica_has_everything_at_once() -> None:
    assert Asking("a").ask(fresh_book(), 0.0).share == TOTALS


def test_a_newcomer_gets_nothing_until_the_other_has_shrunk_and_said_so() -> None:
    book, old, new = fresh_book(), Asking("old"), Asking("new")
    old.ask(book, 0.0)
    assert new.ask(book, 1.0).share == Share(0.0, 0.0)
    assert old.ask(book, 2.0).share == Share(0.5, 50.0)
    assert new.ask(book, 3.0).share == Share(0.0, 0.0)
    old.ask(book, 4.0)
    assert new.ask(book, 5.0).share == Share(0.5, 50.0)


def test_a_dead_replicas_part_comes_free_when_its_lease_has_run_out() -> None:
    book = fresh_book()
    Asking("dead").ask(book, 0.0)
    successor = Asking("successor")
    assert successor.ask(book, 9.9).share == Share(0.0, 0.0)
    assert successor.ask(book, 10.0).share == TOTALS


def test_a_replica_that_leaves_gives_its_part_back_at_once() -> None:
    book = fresh_book()
    Asking("gone").ask(book, 0.0)
    book.leave("gone")
    assert Asking("next").ask(book, 0.1).share == TOTALS


def test_a_lost_answer_keeps_both_leases_counted() -> None:
    book, old, new = fresh_book(), Asking("old"), Asking("new")
    old.ask(book, 0.0)
    held = old.grant
    new.ask(book, 1.0)
    old.ask(book, 2.0)
    old.grant = held
    old.ask(book, 3.0)
    assert new.ask(book, 3.5).share == Share(0.0, 0.0)


def test_an_overtaken_request_is_not_answered() -> None:
    book = fresh_book()
    assert book.renew(ShareRequest("a", 2, None), 0.0) is not None
    assert book.renew(ShareRequest("a", 1, None), 0.1) is None


def test_after_a_restart_a_replica_keeps_what_it_holds_and_gets_no_more_until_old_leases_are_over() -> None:
    book = ShareBook(TOTALS, TERMS, epoch=2, now=0.0, quarantine_seconds=10.0)
    holder, newcomer = Asking("holder"), Asking("newcomer")
    holder.grant = ShareGrant("1.7", Share(0.25, 25.0), 9.0, 3.0)
    assert holder.ask(book, 0.5).share == Share(0.25, 25.0)
    assert newcomer.ask(book, 0.6).share == Share(0.0, 0.0)
    assert newcomer.ask(book, 10.1).share == Share(0.5, 50.0)


def test_parts_too_small_to_pay_an_attempt_are_not_made() -> None:
    book = fresh_book(Share(1.0, 5.0))
    replicas = [Asking(f"r{number}") for number in range(4)]
    run_until(book, replicas, 0.0, 20.0)
    shares = [replica.grant.share for replica in replicas if replica.grant is not None]
    assert shares == [Share(0.5, 2.5), Share(0.5, 2.5), Share(0.0, 0.0), Share(0.0, 0.0)]


@settings(max_examples=100, deadline=None)
@given(
    before=st.integers(1, 8), joining=st.integers(0, 8), dying=st.integers(0, 7), floor=st.floats(0.0, 20.0)
)
def test_everybody_has_its_equal_part_soon_after_the_last_lease_of_the_dead(
    before: int, joining: int, dying: int, floor: float
) -> None:
    book = fresh_book(Share(floor, 100.0))
    replicas = [Asking(f"r{number}") for number in range(before)]
    run_until(book, replicas, 0.0, 20.0)
    replicas = replicas[min(dying, before - 1) :] + [Asking(f"n{number}") for number in range(joining)]
    # The dead are noticed when their leases are over; who has just asked then asks again a third later.
    run_until(book, replicas, 20.0, 20.0 + TERMS.lease_seconds * 4 / 3 + TERMS.margin_seconds + 2.0)
    for replica in replicas:
        assert replica.grant is not None
        assert abs(replica.grant.share.cap_tokens - 100.0 / len(replicas)) < 1e-6
        assert abs(replica.grant.share.floor_tokens_per_second - floor / len(replicas)) < 1e-6
    assert replicas[0].grant is not None
    assert replicas[0].grant.renew_after_seconds == TERMS.lease_seconds / 3
