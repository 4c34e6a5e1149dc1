"""Whom a replica believes about upstreams."""

import pytest

from hybridroute_serve.retries.sightings import Sighting, SightingBoard, UpstreamPlace

PLACE = UpstreamPlace("primary", "https://one/v1")
MOVED = UpstreamPlace("primary", "https://two/v1")
MEMORY_SECONDS = 10.0


def a_board(*says_down: bool) -> SightingBoard:
    """A board on which so many replicas have said of one upstream whether it is down."""
    board = SightingBoard(MEMORY_SECONDS)
    for number, is_down in enumerate(says_down):
        board.note(f"p{number}", [Sighting(PLACE, is_down)], 0.0)
    return board


@pytest.mark.parametrize(
    ("says_down", "believed"),
    [
        ((), False),
        ((True,), True),
        ((False,), False),
        ((True, False), True),
        ((True, False, False), False),
        ((True, True, False), True),
    ],
)
def test_as_many_must_say_so_as_say_otherwise(says_down: tuple[bool, ...], believed: bool) -> None:
    assert a_board(*says_down).down_for("new", 1.0) == ((PLACE,) if believed else ())


def test_a_replica_is_not_told_its_own_word() -> None:
    board = a_board(True)
    assert board.down_for("p0", 1.0) == ()
    board.note("p1", [Sighting(PLACE, is_down=False)], 1.0)
    assert board.down_for("p0", 1.0) == ()


def test_a_newer_word_replaces_an_older_one() -> None:
    board = a_board(True)
    board.note("p0", [Sighting(PLACE, is_down=False)], 1.0)
    assert board.down_for("new", 1.0) == ()
    board.note("p0", [], 2.0)
    assert board.down_for("new", 2.0) == ()


def test_an_old_word_counts_no_more() -> None:
    board = a_board(True)
    assert board.down_for("new", MEMORY_SECONDS - 0.1) == (PLACE,)
    assert board.down_for("new", MEMORY_SECONDS) == ()


def test_the_word_of_a_replica_that_has_stopped_is_dropped() -> None:
    board = a_board(True)
    board.forget("p0")
    board.forget("p0")
    assert board.down_for("new", 0.0) == ()


def test_what_was_seen_elsewhere_under_the_same_name_says_nothing() -> None:
    board = a_board(True)
    board.note("p1", [Sighting(MOVED, is_down=False)], 0.0)
    assert board.down_for("new", 0.0) == (PLACE,)
