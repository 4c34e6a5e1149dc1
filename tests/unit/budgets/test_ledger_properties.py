"""The ledger's promises against everything that can go wrong, on a virtual clock (`support.budget_world`)."""

import random
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from support.budget_world import CLIENT, HOLD_TERMS, ROUTE, MemoryStore, World, WorldStore
from support.config_maps import WorldConfigMap

WINDOWS = ("2m", "60m", "1d@Europe/Berlin", "2m", "month")
FATES = ("answered", "answered", "answered", "answer_lost", "answer_late", "call_late")
SECONDS = (0.5, 5.0, 30.0, 100.0, 200.0, 4_000.0)
STEPS = (-7_200.0, -60.0, 60.0, 7_200.0, 90_000.0)
LIMITS = (10_000, 20_000, 3_000, 0)

STORES: list[Callable[[], WorldStore]] = [MemoryStore, WorldConfigMap]
"""The port itself, and its compare-and-swap in a ConfigMap."""

any_index = st.integers(0, 1_000)
fates = st.sampled_from(FATES)


class Ledgers(RuleBasedStateMachine):
    """Hypothesis finds short stories and shrinks them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @initialize(window=st.sampled_from(WINDOWS), replicas=st.integers(1, 3), store=st.sampled_from(STORES))
    def start(self, window: str, replicas: int, store: Callable[[], WorldStore]) -> None:
        self.world = World(window=window, store=store())
        for _ in range(replicas):
            self.world.replica_joins()

    @rule(index=any_index, bound=st.integers(0, 400), share=st.floats(0, 1), client=st.booleans(), fate=fates)
    def request_comes(self, index: int, bound: int, share: float, client: bool, fate: str) -> None:
        self.world.wants_attempt(index, bound, int(bound * share), client=client, fate=fate)

    @rule(index=any_index)
    def attempt_is_sent(self, index: int) -> None:
        self.world.attempt_is_sent(index)

    @rule(index=any_index, usage_seen=st.booleans())
    def attempt_ends(self, index: int, usage_seen: bool) -> None:
        self.world.attempt_ends(index, usage_seen=usage_seen)

    @rule(index=any_index)
    def replica_settles(self, index: int) -> None:
        self.world.replica_settles(index)

    @rule(index=any_index, account=st.sampled_from((ROUTE, CLIENT)), fate=fates)
    def replica_calls(self, index: int, account: str, fate: str) -> None:
        self.world.replica_calls(index, account, fate)

    @rule(index=any_index, fate=fates)
    def late_call_arrives(self, index: int, fate: str) -> None:
        self.world.late_call_arrives(index, fate)

    @rule(index=any_index)
    def late_answer_arrives(self, index: int) -> None:
        self.world.late_answer_arrives(index)

    @rule(seconds=st.sampled_from(SECONDS))
    def time_passes(self, seconds: float) -> None:
        self.world.time_passes(seconds)
        self.world.keeper_sweeps()

    @rule(seconds=st.sampled_from(STEPS))
    def wall_clock_steps(self, seconds: float) -> None:
        self.world.wall_clock_steps(seconds)

    @rule(index=any_index, what=st.sampled_from(("killed", "stopped", "leaves", "joins", "journals")))
    def replicas_change(self, index: int, what: str) -> None:
        match what:
            case "killed":
                self.world.replica_is_killed(index)
            case "stopped":
                self.world.replica_is_stopped_or_goes_on(index)
            case "leaves":
                self.world.replica_leaves(index)
            case "joins":
                self.world.replica_joins(1e6)
            case _:
                self.world.journals_of_the_dead_are_read()

    @rule(what=st.sampled_from(("crash", "start", "replaced", "before", "after")))
    def keeper_and_store(self, what: str) -> None:
        match what:
            case "crash":
                self.world.keeper_crashes()
            case "start":
                self.world.keeper_starts()
            case "replaced":
                self.world.replaced_keeper_tries()
            case _:
                self.world.store_fails(what)

    @rule(limit=st.sampled_from(LIMITS), client_limit=st.sampled_from(LIMITS))
    def limits_change(self, limit: int, client_limit: int) -> None:
        self.world.limits_change(limit, client_limit)

    @invariant()
    def what_is_billed_is_settled_or_held(self) -> None:
        self.world.check()


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def walk(world: World, draw: random.Random, steps: int, *, lose_store: bool) -> None:
    """Take random steps; disruptions are rare enough that money moves in between."""

    def index() -> int:
        return draw.randrange(1_000)

    def fate() -> str:
        return draw.choice(FATES)

    def account() -> str:
        return draw.choice((ROUTE, CLIENT))

    def request() -> None:
        bound = draw.randint(0, 400)
        world.wants_attempt(index(), bound, draw.randint(0, bound), client=draw.random() < 0.4, fate=fate())

    table: list[tuple[float, Callable[[], object]]] = [
        (20, request),
        (5, lambda: world.quiet_traffic(draw, 5)),
        (14, lambda: world.attempt_is_sent(index())),
        (12, lambda: world.attempt_ends(index(), usage_seen=draw.random() < 0.8)),
        (6, lambda: world.replica_settles(index())),
        (6, lambda: world.replica_calls(index(), account(), fate())),
        (3, lambda: world.late_call_arrives(index(), fate())),
        (3, lambda: world.late_answer_arrives(index())),
        (8, lambda: world.time_passes(draw.choice(SECONDS[:-1]))),
        (1, lambda: world.time_passes(SECONDS[-1])),
        (4, world.keeper_sweeps),
        (0.7, lambda: world.wall_clock_steps(draw.choice(STEPS))),
        (1, lambda: world.replica_is_killed(index())),
        (2, world.journals_of_the_dead_are_read),
        (1.5, lambda: world.replica_is_stopped_or_goes_on(index())),
        (1, lambda: world.replica_leaves(index())),
        (3, lambda: world.replica_joins(draw.choice((0.0, -4e4, 1e6)))),
        (0.7, world.keeper_crashes),
        (3, world.keeper_starts),
        (1, world.replaced_keeper_tries),
        (2, lambda: world.store_fails(draw.choice(("before", "after")))),
        (1, lambda: world.limits_change(draw.choice(LIMITS[:3]), draw.choice(LIMITS))),
        (0.4, lambda: world.window_changes(draw.choice(WINDOWS))),
        (0.3 if lose_store else 0, world.store_is_lost),
    ]
    weights = [weight for weight, _ in table]
    for _ in range(steps):
        draw.choices([step for _, step in table], weights)[0]()
        world.check()


@pytest.mark.parametrize("seed", range(75))
def test_long_walks(seed: int) -> None:
    draw = random.Random(seed)
    world = World(window=WINDOWS[seed % len(WINDOWS)], store=STORES[seed % 2]())
    world.replica_joins()
    walk(world, draw, 500, lose_store=False)
    assert world.bills > 0


@pytest.mark.parametrize("seed", range(1_000, 1_040))
def test_long_walks_that_lose_the_store(seed: int) -> None:
    draw = random.Random(seed)
    world = World(window=WINDOWS[seed % len(WINDOWS)], store=STORES[seed % 2]())
    world.replica_joins()
    walk(world, draw, 500, lose_store=True)


@pytest.mark.parametrize("seed", range(2_000, 2_020))
def test_after_any_walk_service_resumes_and_the_limit_is_used(seed: int) -> None:
    """Nothing stays stuck: once all is quiet and the window has turned, at least 90 % can be spent again."""
    draw = random.Random(seed)
    world = World(window="60m", store=STORES[seed // 2 % 2]())
    world.replica_joins()
    walk(world, draw, 300, lose_store=seed % 2 == 0)

    world.store.fails = None
    world.keeper_starts()
    world.window_changes("60m")
    world.check()
    # A lost past is over once the keeper has run for a while; then a window must pass.
    world.time_passes(HOLD_TERMS.silence_seconds)
    world.keeper_sweeps()
    world.wall_step = max(world.wall_step, 0.0) + 200_000.0
    for replica in world.replicas:
        replica.stopped = False
    while len(world.replicas) < 4:
        world.replica_joins()
    world.limits_change(10_000, 10_000)
    for _ in range(6):
        world.journals_of_the_dead_are_read()
        for index in range(4):
            while world.replicas[index].attempts:
                world.attempt_is_sent(index)
                world.attempt_ends(index, usage_seen=True)
            world.replica_settles(index)
        world.time_passes(1_000.0)
        world.keeper_sweeps()
        world.check()

    state = world.stored()
    assert state is not None
    before = world.bills
    for _ in range(60):
        for index in range(4):
            world.quiet_traffic(draw, 10)
            world.replica_calls(index, ROUTE, "answered")
    assert world.bills > before
    world.check()
    state = world.stored()
    assert state is not None
    assert sum(state.accounts[ROUTE].settled.values()) >= 9_000
