"""The loop against a cluster in memory: made, at rest, repaired, refused, interrupted anywhere."""

import copy
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hybridroute_operator.errors import ApiConflictError, ApiRejectedError, ApiUnavailableError
from hybridroute_operator.observation import RouteKey
from hybridroute_operator.reconcile import Reconciler
from hybridroute_render.kubernetes.kinds import ObjectKey
from hybridroute_render.kubernetes.names import Part
from support.fake_cluster import CrashError, FakeCluster
from support.golden import CLUSTER
from support.routes import route_document

KEY = RouteKey("default", "support")
LIVE = ObjectKey("ConfigMap", "support-live")
ACCEPTED = ObjectKey("ConfigMap", "support-accepted")
LEDGER = ObjectKey("ConfigMap", "support-ledger")
SLM = ObjectKey("RayService", "support-slm")
Changes = dict[str, Any]


class Operator:
    """One life of the operator's process, on a clock that the test moves."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.now = datetime(2026, 11, 24, tzinfo=UTC)
        tokens = itertools.count(1)
        self.reconciler = Reconciler(
            cluster, CLUSTER, now=lambda: self.now, make_token=lambda: f"token-{next(tokens)}"
        )

    async def settle(self, key: RouteKey = KEY) -> int:
        """Do rounds until one writes nothing; return how many wrote."""
        for count in range(10):
            done = await self.reconciler.reconcile(key)
            if not done.writes and not done.wrote_status:
                return count
        raise AssertionError(f"it writes for ever: {self.cluster.writes[-6:]}")


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


def document(changes: Changes | None = None) -> Changes:
    return route_document(changes)


def condition(cluster: FakeCluster, kind: str, key: RouteKey = KEY) -> tuple[str, str, str]:
    found = next(c for c in cluster.routes[key]["status"]["conditions"] if c["type"] == kind)
    return found["status"], found["reason"], found["message"]


def without_tokens(cluster: FakeCluster) -> dict[ObjectKey, Any]:
    """All objects, but for what is random in them."""
    return {
        key: {k: v for k, v in item.items() if key.kind != "Secret" or k != "stringData"}
        for key, item in copy.deepcopy(cluster.objects).items()
    }


async def fresh(changes: Changes | None = None) -> dict[ObjectKey, Any]:
    """What a new cluster holds after the route was applied to it."""
    new = FakeCluster()
    new.put_route(document(changes))
    await Operator(new).settle()
    return without_tokens(new)


async def test_a_new_route_is_made_whole_and_then_left_alone(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    assert await operator.settle() == 1
    made = copy.deepcopy(cluster.objects)
    assert len(made) == 15
    cluster.writes.clear()
    for _ in range(5):
        operator.now += timedelta(minutes=1)
        done = await operator.reconciler.reconcile(KEY)
        assert (done.writes, done.wrote_status) == (0, False)
    assert cluster.writes == []
    assert cluster.objects == made


async def test_ready_once_kuberay_says_so(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    await operator.settle()
    assert condition(cluster, "Ready")[:2] == ("Unknown", "Starting")
    cluster.serve(Part.GATEWAY, router="RUNNING", llm_proxy="RUNNING", keeper="RUNNING")
    await operator.settle()
    assert condition(cluster, "Ready")[:2] == ("True", "LLMCarries")
    cluster.serve(Part.SLM, slm="RUNNING")
    await operator.settle()
    assert condition(cluster, "Ready")[:2] == ("True", "Serving")
    turned = [event for event in cluster.events if event.reason == "Serving"]
    assert [event.message for event in turned] == ["Ready is True: Serving", "Degraded is False: Serving"]
    assert not [event for event in turned if event.warning]


DRIFTS = [
    ("deleted", lambda objects, key: objects.pop(key)),
    (
        "emptied",
        lambda objects, key: objects.update({key: objects[key] | {"spec": {}, "data": {}, "rules": []}}),
    ),
    ("relabelled", lambda objects, key: objects[key]["metadata"]["labels"].clear()),
]


@pytest.mark.parametrize("drift", [row[1] for row in DRIFTS], ids=[row[0] for row in DRIFTS])
async def test_every_child_is_repaired(cluster: FakeCluster, drift: Any) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    await operator.settle()
    wanted = without_tokens(cluster)
    for key in [key for key in cluster.objects if key.kind != "Secret" and key != LEDGER]:
        drift(cluster.objects, key)
    await operator.settle()
    for key, repaired in without_tokens(cluster).items():
        # What somebody else added to an object stays: fields of ours alone are put back.
        assert {field: repaired.get(field) for field in wanted[key]} == wanted[key]


async def test_lost_tokens_are_made_anew_and_kept_ones_stay(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    await operator.settle()
    secret = ObjectKey("Secret", "support-internal")
    first = cluster.objects[secret]["stringData"]
    assert len(set(first.values())) == 2
    await Operator(cluster).settle()
    assert cluster.objects[secret]["stringData"] == first
    del cluster.objects[secret]
    await operator.settle()
    assert cluster.objects[secret]["stringData"] != first


CHANGES: list[Changes] = [
    {"spec": {"mode": "LLMOnly"}},
    {"spec": {"topology": "HA"}},
    {"spec": {"slm": {"image": "other:1"}}},
    {"spec": {"slm": {"image": "other:1", "rollout": "Surge"}}},
    {"spec": {"slm": {"scaling": {"minReplicas": 2, "maxReplicas": 4}}}},
    {"spec": {"pods": {"priorityClassName": "high"}}},
]


@pytest.mark.parametrize(("before", "after"), list(itertools.pairwise([*CHANGES, CHANGES[0], CHANGES[3]])))
async def test_a_changed_route_ends_as_a_fresh_one(
    cluster: FakeCluster, before: Changes, after: Changes
) -> None:
    operator = Operator(cluster)
    cluster.put_route(document(before))
    await operator.settle()
    cluster.put_route(document(after))
    await operator.settle()
    assert without_tokens(cluster) == await fresh(after)


async def test_a_crash_at_any_write_ends_the_same(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    await Operator(cluster).settle()
    writes, wanted = len(cluster.writes), without_tokens(cluster)
    assert writes == 16  # 15 objects and the status
    for crash_at in range(writes):
        broken = FakeCluster()
        broken.put_route(document())
        count = itertools.count()

        def crash(what: str, count: Any = count, crash_at: int = crash_at) -> None:
            if next(count) == crash_at:
                raise CrashError(what)

        broken.before_write = crash
        with pytest.raises(CrashError):
            await Operator(broken).settle()
        await Operator(broken).settle()
        assert without_tokens(broken) == wanted
        assert broken.routes[KEY]["status"]["conditions"]


@pytest.mark.parametrize("error", [ApiUnavailableError, ApiConflictError])
async def test_an_api_server_that_fails_at_any_write_is_asked_again(
    cluster: FakeCluster, error: type[Exception]
) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    count = itertools.count()

    def fail(what: str) -> None:
        if next(count) % 2 == 0:
            raise error(what)

    cluster.before_write = fail
    for _ in range(40):
        try:
            done = await operator.reconciler.reconcile(KEY)
        except error:
            continue
        if not done.writes and not done.wrote_status:
            break
    assert without_tokens(cluster) == await fresh()


async def test_an_object_that_is_refused_stops_nothing_else(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)

    def refuse(what: str) -> None:
        if "NetworkPolicy" in what:
            raise ApiRejectedError("admission webhook says no")

    cluster.before_write = refuse
    with pytest.raises(ApiRejectedError):
        await operator.reconciler.reconcile(KEY)
    assert len(cluster.objects) == 13
    assert condition(cluster, "Accepted")[0] == "True"
    [first, _] = [event for event in cluster.events if event.warning]
    assert first.message == "NetworkPolicy support-gateway: admission webhook says no"
    cluster.before_write = lambda _: None
    await operator.settle()
    assert without_tokens(cluster) == await fresh()


async def test_without_its_ledger_nothing_of_a_route_is_made(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)

    def refuse(what: str) -> None:
        if LEDGER.name in what:
            raise ApiRejectedError("exceeded quota")

    cluster.before_write = refuse
    with pytest.raises(ApiRejectedError):
        await operator.reconciler.reconcile(KEY)
    assert cluster.objects == {}
    assert condition(cluster, "Accepted")[0] == "True"
    cluster.before_write = lambda _: None
    await operator.settle()
    assert cluster.objects[LEDGER]["data"] == {"past": "none"}


async def test_a_lost_ledger_is_made_again_as_one_whose_past_is_unknown(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    operator = Operator(cluster)
    await operator.settle()
    assert cluster.objects.pop(LEDGER)["data"] == {"past": "none"}
    await operator.settle()
    assert cluster.objects[LEDGER]["data"] == {"past": "unknown"}


REFUSED: list[tuple[Changes, str]] = [
    (
        {"spec": {"llm": {"upstreams": [{"credentials": {"env": "KEY"}}]}}},
        "spec.llm.upstreams[0].credentials has no secretName, and a cluster reads keys from Secrets alone:"
        " make a Secret and name it",
    ),
    (
        {"spec": {"routing": {"examples": {"local": ["a"], "remote": ["A"]}}}},
        "spec.routing.examples.remote.0 is also a local example: keep it in one of the two lists",
    ),
    (
        {"spec": {"slm": {"contextTokens": 1}}},
        "spec.slm.contextTokens is refused: Input should be greater than or equal to 256",
    ),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED, ids=[row[1][:30] for row in REFUSED])
async def test_a_bad_route_says_why_and_recovers_by_undoing(
    cluster: FakeCluster, changes: Changes, text: str
) -> None:
    operator = Operator(cluster)
    cluster.put_route(document())
    await operator.settle()
    good = copy.deepcopy(cluster.objects)
    cluster.put_route(document(changes))
    await operator.settle()
    assert condition(cluster, "Accepted") == ("False", "Invalid", text)
    assert condition(cluster, "Ready")[:2] == ("False", "NotAccepted")
    assert cluster.objects == good  # what served goes on serving
    cluster.put_route(document())
    await operator.settle()
    assert condition(cluster, "Accepted")[:2] == ("True", "Valid")
    assert cluster.objects == good


async def test_a_refused_route_is_repaired_by_what_was_accepted_last(cluster: FakeCluster) -> None:
    operator = Operator(cluster)
    cluster.put_route(document({"spec": {"mode": "LLMOnly"}}))
    await operator.settle()
    cluster.serve(Part.GATEWAY, router="RUNNING", llm_proxy="RUNNING", keeper="RUNNING")
    good = without_tokens(cluster)
    cluster.put_route(document(REFUSED[0][0]))
    await operator.settle()
    for key in [key for key in cluster.objects if key.kind != "Secret" and key not in (LEDGER, ACCEPTED)]:
        if key != ObjectKey("RayService", "support-gateway"):
            del cluster.objects[key]
    await Operator(cluster).settle()  # a new process remembers nothing
    assert without_tokens(cluster) == good
    assert condition(cluster, "Accepted") == ("False", "Invalid", REFUSED[0][1])
    assert condition(cluster, "Ready")[:2] == ("False", "NotAccepted")
    assert condition(cluster, "RouterReady")[:2] == ("True", "ReplicasUp")


@pytest.mark.parametrize("edit", ["edited", "deleted", "of an earlier route"])
async def test_what_was_accepted_is_followed_only_if_it_is_as_it_was_written(
    cluster: FakeCluster, edit: str
) -> None:
    operator = Operator(cluster)
    cluster.put_route(document())
    await operator.settle()
    cluster.put_route(document(REFUSED[0][0]))
    await operator.settle()
    kept = cluster.objects[ACCEPTED]
    if edit == "edited":
        kept["data"]["spec.json"] = kept["data"]["spec.json"].replace("Hybrid", "LLMOnly")
        kept["data"]["spec.json"] += " "
    elif edit == "deleted":
        del cluster.objects[ACCEPTED]
    else:
        kept["metadata"]["ownerReferences"][0]["uid"] = "of-before"
    del cluster.objects[LIVE]
    await operator.settle()
    assert LIVE not in cluster.objects
    assert condition(cluster, "Accepted")[:2] == ("False", "Invalid")
    assert condition(cluster, "RouterReady")[:2] == ("Unknown", "NotAccepted")
    cluster.objects.pop(ACCEPTED, None)
    cluster.put_route(document())
    await operator.settle()
    assert without_tokens(cluster) == await fresh()


async def test_a_deleted_route_says_once_what_it_waits_for(cluster: FakeCluster) -> None:
    operator = Operator(cluster)
    cluster.put_route(document())
    await operator.settle()
    uid = cluster.routes.pop(KEY)["metadata"]["uid"]
    cluster.events.clear()
    cluster.told_of.clear()
    slm = cluster.objects[SLM]["metadata"]
    slm |= {"deletionTimestamp": "2026-11-24T00:00:00Z", "finalizers": ["ray.io/rayservice-finalizer"]}
    assert (await operator.reconciler.reconcile(KEY)).again_seconds == 30
    assert cluster.events == []  # KubeRay needs a moment
    operator.now += timedelta(seconds=31)
    for _ in range(3):
        await operator.reconciler.reconcile(KEY)
    [event] = cluster.events
    assert (event.warning, event.reason) == (True, "Terminating")
    assert event.message == (
        "RayService support-slm is being deleted and waits for ray.io/rayservice-finalizer,"
        " which KubeRay takes away when it runs"
    )
    assert cluster.told_of == [uid]
    del cluster.objects[SLM]
    assert (await operator.reconciler.reconcile(KEY)).again_seconds is None


async def test_a_route_that_is_gone_or_going_is_left_to_the_garbage_collector(cluster: FakeCluster) -> None:
    operator = Operator(cluster)
    assert (await operator.reconciler.reconcile(KEY)).again_seconds is None
    cluster.put_route(document())
    cluster.routes[KEY]["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    assert (await operator.reconciler.reconcile(KEY)).again_seconds is None
    assert cluster.writes == []


async def test_two_routes_of_one_name_in_two_namespaces_do_not_meet() -> None:
    here, there = FakeCluster(), FakeCluster()
    here.put_route(document({"metadata": {"namespace": "a"}}))
    there.put_route(document({"metadata": {"namespace": "b"}}))
    await Operator(here).settle(RouteKey("a", "support"))
    await Operator(there).settle(RouteKey("b", "support"))
    for key, item in here.objects.items():
        assert item["metadata"]["namespace"] == "a"
        assert there.objects[key]["metadata"]["namespace"] == "b"


async def test_a_status_of_another_version_is_replaced(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    cluster.routes[KEY]["status"] = {"conditions": [{"type": "Odd"}]}
    await Operator(cluster).settle()
    assert condition(cluster, "Accepted")[0] == "True"


async def test_missing_kuberay_is_said_and_heals(cluster: FakeCluster) -> None:
    cluster.put_route(document())
    cluster.missing_kinds = frozenset({"RayService"})
    operator = Operator(cluster)
    await operator.settle()
    assert condition(cluster, "RouterReady") == (
        "False",
        "KubeRayMissing",
        "the cluster does not know the kind RayService: install KubeRay",
    )
    cluster.missing_kinds = frozenset()
    await operator.settle()
    assert without_tokens(cluster) == await fresh()
