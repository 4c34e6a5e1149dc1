"""Names of requests."""

from itertools import pairwise

from hybridroute_serve.router.request_ids import make_request_id


def test_names_stand_in_the_order_of_their_time_and_none_twice():
    times = [1_795_822_070.645, 1_795_822_070.646, 1_795_822_071.0, 4_102_444_800.0]
    made = [[make_request_id(lambda at=at: at) for _ in range(100)] for at in times]
    assert all(max(earlier) < min(later) for earlier, later in pairwise(made))
    assert len({name for names in made for name in names}) == 400
    assert {len(name) for names in made for name in names} == {len("hr-") + 32}
