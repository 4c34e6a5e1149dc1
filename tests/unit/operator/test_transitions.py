"""Any walk of a route through valid and misguided specs, meddled with on the way, ends as a fresh apply.

After each step the children are those of a new cluster to which the last valid spec was applied; a bad spec changes no
child, is repaired like a good one, and recovers by being undone; the operator may be replaced at any step.
server.
"""

import asyncio
import copy
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridroute_operator.observation import RouteKey
from hybridroute_operator.reconcile import Reconciler
from hybridroute_render.kubernetes.kinds import ObjectKey
from support.fake_cluster import FakeCluster
from support.golden import CLUSTER
from support.routes import route_document
from support.transitions import MISGUIDED, VALID

KEY = RouteKey("default", "support")
Objects = dict[ObjectKey, Any]


def meddled(cluster: FakeCluster, accepted: bool) -> list[ObjectKey]:
    """What somebody meddles with. A refused route is repaired as long as its accepted spec is left alone."""
    spared = set() if accepted else {ObjectKey("ConfigMap", "support-accepted")}
    return sorted(key for key in cluster.objects if key.kind != "Secret" and key not in spared)


def delete_one(cluster: FakeCluster, accepted: bool) -> None:
    del cluster.objects[meddled(cluster, accepted)[0]]


def delete_all(cluster: FakeCluster, accepted: bool) -> None:
    for key in meddled(cluster, accepted):
        del cluster.objects[key]


def edit_all(cluster: FakeCluster, accepted: bool) -> None:
    for key in meddled(cluster, accepted):
        item = cluster.objects[key]
        if key.kind == "RayService":
            item["spec"]["upgradeStrategy"] = {"type": "Other"}
        if key.kind == "ConfigMap":
            item["data"] = dict.fromkeys(item["data"], "{}")


MEDDLING: list[Callable[[FakeCluster, bool], None]] = [delete_one, delete_all, edit_all]


async def settle(cluster: FakeCluster) -> None:
    """A new operator does rounds until one writes nothing."""
    now = datetime(2026, 11, 24, tzinfo=UTC)
    tokens = iter(range(100))
    reconciler = Reconciler(cluster, CLUSTER, now=lambda: now, make_token=lambda: f"token-{next(tokens)}")
    for _ in range(6):
        done = await reconciler.reconcile(KEY)
        if not done.writes and not done.wrote_status:
            return
    raise AssertionError(f"it writes for ever: {cluster.writes[-6:]}")


def made_once(key: ObjectKey) -> set[str]:
    """What is no function of the route: random tokens, and what the keeper writes."""
    return {"stringData"} | ({"data"} if key.name == "support-ledger" else set())


def children(cluster: FakeCluster) -> Objects:
    return {
        key: {k: v for k, v in copy.deepcopy(item).items() if k not in made_once(key)}
        for key, item in cluster.objects.items()
    }


@cache
def fresh(index: int) -> Objects:
    cluster = FakeCluster()
    cluster.put_route(route_document(VALID[index]))
    asyncio.run(settle(cluster))
    return children(cluster)


STEPS = st.one_of(
    st.tuples(st.just("valid"), st.integers(0, len(VALID) - 1)),
    st.tuples(st.just("misguided"), st.integers(0, len(MISGUIDED) - 1)),
    st.tuples(st.just("meddle"), st.integers(0, len(MEDDLING) - 1)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_any_walk_ends_as_a_fresh_apply(steps: list[tuple[str, int]]) -> None:
    cluster = FakeCluster()
    cluster.put_route(route_document(VALID[0]))
    asyncio.run(settle(cluster))
    valid, accepted = 0, True
    for kind, index in steps:
        if kind == "valid":
            valid, accepted = index, True
            cluster.put_route(route_document(VALID[index]))
        elif kind == "misguided":
            accepted = False
            cluster.put_route(route_document(MISGUIDED[index]))
        else:
            MEDDLING[index](cluster, accepted)
        asyncio.run(settle(cluster))
        assert children(cluster) == fresh(valid)
        conditions = {c["type"]: c["status"] for c in cluster.routes[KEY]["status"]["conditions"]}
        assert conditions["Accepted"] == ("True" if accepted else "False")
