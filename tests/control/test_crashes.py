"""The operator's process killed at its writes, and an API server that fails, conflicts and hides events: same end.

`CRASHES=all` kills at each write in turn, before and after it is done; without it a seeded few are tried.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.api_proxy import LOST, ApiProxy, Call, run_api_proxy
from support.api_server import ApiServer
from support.operator_process import OperatorProcess
from support.route_world import RouteWorld
from support.routes import route_document

FEW = 2
CHANGE: dict[str, Any] = {
    "spec": {"topology": "HA", "slm": {"image": "other:1"}, "pods": {"priorityClassName": "high"}}
}
"""Touches both RayServices, of which one is deleted and made anew, and the accepted spec."""


@pytest.fixture
def proxy(cluster: ApiServer, tmp_path: Path) -> Iterator[ApiProxy]:
    with run_api_proxy(cluster, tmp_path) as running:
        yield running


@pytest.fixture
def start(proxy: ApiProxy, tmp_path: Path) -> Iterator[Callable[[], OperatorProcess]]:
    """Starts an operator behind the proxy; whatever still runs at the end is killed."""
    started: list[OperatorProcess] = []

    def begin() -> OperatorProcess:
        log = tmp_path / f"operator-{len(started)}.log"
        started.append(OperatorProcess(proxy.server, log, "--no-leader-election"))
        return started[-1]

    yield begin
    for process in started:
        process.kill()


def is_of(world: RouteWorld, call: Call) -> bool:
    return call.is_write and f"/namespaces/{world.namespace}/" in call.path


def chosen(writes: int) -> list[tuple[int, bool]]:
    """Return at which write to crash, and whether it is done before."""
    every = [(number, done) for number in range(writes) for done in (False, True)]
    return every if os.environ.get("CRASHES") == "all" else random.Random(20261127).sample(every, FEW)


class Killer:
    """Kills the operator when the world's write with a number from 0 comes, before or after it is done."""

    def __init__(self, world: RouteWorld, operator: OperatorProcess, at: int, *, done: bool) -> None:
        self.killed = False
        self._world, self._operator, self._left, self._done = world, operator, at, done

    def fault(self, call: Call) -> int | None:
        """Decide on one call."""
        if self.killed or not is_of(self._world, call):
            return None
        self._left -= 1
        if self._left >= 0:
            return None
        self._operator.kill()
        self.killed = True
        return LOST if self._done else 503


@pytest.mark.timeout(7200 if os.environ.get("CRASHES") == "all" else 1200)
def test_a_crash_at_a_write_ends_the_same(
    cluster: ApiServer, proxy: ApiProxy, start: Callable[[], OperatorProcess]
) -> None:
    """Made whole, then changed: the crash comes at any of the writes of both."""
    operator = start()
    first = RouteWorld(cluster, "crash")
    for document in (route_document(), route_document(CHANGE)):
        status, answer = first.apply(document)
        assert status in (200, 201), answer["message"]
        first.wait_until_seen(answer["metadata"]["generation"])
    wanted = first.fresh_children(answer["spec"])
    first.wait_until_children_are(wanted)
    writes = sum(is_of(first, call) for call in proxy.calls)
    assert writes > 17  # 14 objects, their status, and what the change writes
    killed = 0
    for at, done in chosen(writes):
        world = RouteWorld(cluster, "crash")
        killer = Killer(world, operator, at, done=done)
        proxy.fault = killer.fault
        restarted = False
        for document in (route_document(), route_document(CHANGE)):
            _, answer = world.apply(document)
            generation = answer["metadata"]["generation"]
            world.wait_until(
                lambda w=world, k=killer, g=generation: k.killed or w.has_seen(g),  # type: ignore[misc]
                lambda: f"write {at}: neither a crash nor an end",  # noqa: B023 - told at once
            )
            if killer.killed and not restarted:
                operator, restarted = start(), True
            world.wait_until_seen(generation)
        # What is deleted is made anew after the verdict, and the crash may come then.
        world.wait_until(
            lambda w=world, k=killer: k.killed or w.children() == wanted,  # type: ignore[misc]
            lambda: f"write {at}: neither a crash nor the children",  # noqa: B023 - told at once
        )
        if killer.killed and not restarted:
            operator = start()
        world.wait_until_children_are(wanted)
        killed += killer.killed
        assert cluster.request("DELETE", world.path)[0] == 200
    assert killed >= 1


@pytest.mark.timeout(1200)
def test_an_api_server_that_fails_and_conflicts_ends_the_same(
    cluster: ApiServer, proxy: ApiProxy, start: Callable[[], OperatorProcess]
) -> None:
    start()
    world = RouteWorld(cluster, "faults")
    wanted = world.fresh_children(route_document(CHANGE)["spec"])
    choose = random.Random(20261127)

    def fail(call: Call) -> int | None:
        if call.is_watch or f"/namespaces/{world.namespace}/" not in call.path:
            return None
        # A round reads a score of objects and ends at the first that fails; a write that is done stays done.
        share, codes = (0.2, [409, 429, 500, 503, LOST]) if call.is_write else (0.02, [429, 500, LOST])
        return choose.choice(codes) if choose.random() < share else None

    proxy.fault = fail
    assert world.apply(route_document())[0] == 201
    world.wait_until_seen(1)
    status, answer = world.apply(route_document(CHANGE))
    assert status == 200
    world.wait_until_seen(answer["metadata"]["generation"])
    world.wait_until_children_are(wanted)
    assert proxy.faults >= 3


@pytest.mark.timeout(1200)
def test_events_that_are_never_seen_cost_time_alone(
    cluster: ApiServer, proxy: ApiProxy, start: Callable[[], OperatorProcess]
) -> None:
    """The watch of every child is cut off: what happens to one is seen when its route comes by on its own."""
    proxy.fault = lambda call: 503 if call.is_watch and "hybridroutes" not in call.path else None
    start()
    world = RouteWorld(cluster, "unseen")
    assert world.apply(route_document())[0] == 201
    world.wait_until_seen(1)
    wanted = world.fresh_children(route_document()["spec"])
    world.wait_until_children_are(wanted)
    live = f"/api/v1/namespaces/{world.namespace}/configmaps/support-live"
    assert cluster.request("DELETE", live)[0] == 200
    edit = {"metadata": {"labels": {"hybridroute.dev/route": "other"}}}
    binding = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{world.namespace}/rolebindings/support-gateway"
    assert cluster.request("PATCH", binding, edit, kind="application/merge-patch+json")[0] == 200
    world.wait_until_children_are(wanted)


def is_quiet(proxy: ApiProxy, seconds: float) -> bool:
    """Return whether nothing was written for so long, the Lease apart."""
    before = len(proxy.calls)
    time.sleep(seconds)
    return not [call for call in proxy.calls[before:] if call.method != "GET" and "/leases" not in call.path]


@pytest.mark.timeout(900)
def test_over_a_minute_at_rest_nothing_is_written_but_the_lease(
    cluster: ApiServer, proxy: ApiProxy, tmp_path: Path
) -> None:
    operator = OperatorProcess(proxy.server, tmp_path / "leader.log")
    try:
        operator.wait_until_leading()
        world = RouteWorld(cluster, "rest")
        assert world.apply(route_document())[0] == 201
        world.wait_until_seen(1)
        world.wait_until(lambda: is_quiet(proxy, 5.0), lambda: proxy.calls[-20:])
        before = len(proxy.calls)
        assert is_quiet(proxy, 60.0), [call for call in proxy.calls[before:] if call.method != "GET"]
        assert [call for call in proxy.calls[before:] if "/leases" in call.path]  # it works all the while
    finally:
        operator.kill()
