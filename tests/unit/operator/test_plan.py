"""The plan: what differs, what is done about it, and why. One row, one difference."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.conditions import ConditionReason
from hybridroute_operator.observation import Observation
from hybridroute_operator.plan import ActionKind, Plan, plan_actions, stamp_manifest
from hybridroute_render.kubernetes.kinds import ObjectKey, key_of
from hybridroute_render.kubernetes.names import Part
from hybridroute_render.kubernetes.objects import render_internal_secret, render_ledger, render_objects
from support.golden import CLUSTER
from support.routes import merged, route_of

META = {"metadata": {"namespace": "shop", "uid": "u1", "generation": 1}}
LIVE = ObjectKey("ConfigMap", "support-live")
ACCEPTED = ObjectKey("ConfigMap", "support-accepted")
LEDGER = ObjectKey("ConfigMap", "support-ledger")
TOKENS = ObjectKey("Secret", "support-internal")
GATEWAY = ObjectKey("RayService", "support-gateway")
SLM = ObjectKey("RayService", "support-slm")
MONITOR = ObjectKey("PodMonitor", "support-gateway")

Children = dict[ObjectKey, dict[str, Any]]


def route(changes: dict[str, Any] | None = None) -> HybridRoute:
    return route_of(merged(META, changes or {}))


def at_rest(changes: dict[str, Any] | None = None) -> Children:
    """Every object as it was applied for the route, tokens included."""
    owner = route(changes)
    secret = render_internal_secret(owner, token="a", metrics_token="b")
    stamped = [stamp_manifest(manifest) for manifest in render_objects(owner, CLUSTER)]
    ledger = render_ledger(owner, first=True)
    return {key_of(item): copy.deepcopy(item) for item in (ledger, secret, *stamped)}


def plan(children: Children, changes: dict[str, Any] | None = None, **facts: Any) -> Plan:
    wanted = route(changes)
    return plan_actions(wanted, render_objects(wanted, CLUSTER), Observation(children=children, **facts))


def told(planned: Plan) -> list[tuple[ActionKind, ObjectKey, str]]:
    return [(action.kind, action.key, action.reason) for action in planned.actions]


def test_nothing_is_done_at_rest() -> None:
    assert plan(at_rest()) == Plan(())


def test_what_others_add_is_let_be() -> None:
    children = at_rest()
    children[LIVE]["metadata"]["annotations"]["somebody"] = "else"
    children[LIVE]["metadata"]["resourceVersion"] = "7"
    children[GATEWAY]["status"] = {"activeServiceStatus": {}}
    assert plan(children) == Plan(())


def test_everything_is_made_of_nothing_ledger_and_tokens_first() -> None:
    planned = plan({})
    assert told(planned)[:2] == [
        (ActionKind.CREATE_LEDGER, LEDGER, "does not exist"),
        (ActionKind.CREATE_TOKENS, TOKENS, "does not exist"),
    ]
    assert {action.kind for action in planned.actions[2:]} == {ActionKind.APPLY}
    assert {action.key for action in planned.actions} == set(at_rest())


@pytest.mark.parametrize(
    ("left", "past"),
    [((), "none"), ((TOKENS,), "unknown"), ((GATEWAY,), "unknown"), ((LIVE,), "none")],
)
def test_a_ledger_is_the_first_only_where_nothing_could_spend_yet(
    left: tuple[ObjectKey, ...], past: str
) -> None:
    children = {key: item for key, item in at_rest().items() if key in left}
    action = plan(children).actions[0]
    assert action.kind is ActionKind.CREATE_LEDGER
    assert action.manifest is not None
    assert action.manifest["data"] == {"past": past}


def test_what_a_deleted_route_of_the_same_name_leaves_behind_has_spent_nothing_of_this_one() -> None:
    children = {TOKENS: at_rest()[TOKENS]}
    children[TOKENS]["metadata"]["ownerReferences"][0]["uid"] = "of the one before"
    action = plan(children).actions[0]
    assert action.manifest is not None
    assert action.manifest["data"] == {"past": "none"}


def test_what_the_keeper_writes_is_let_be() -> None:
    children = at_rest()
    children[LEDGER]["data"] = {"epoch": "7", "ledger.json": "{}"}
    assert plan(children) == Plan(())


def drop(key: ObjectKey) -> Callable[[Children], None]:
    return lambda children: children.pop(key) and None


def edit(key: ObjectKey, *path: Any, value: Any) -> Callable[[Children], None]:
    def change(children: Children) -> None:
        target: Any = children[key]
        for step in path[:-1]:
            target = target[step]
        target[path[-1]] = value

    return change


REQUESTS = ("spec", "rayClusterConfig", "workerGroupSpecs", 0, "template", "spec", "containers", 0)


@pytest.mark.parametrize(
    ("name", "asked", "seen", "same"),
    [
        ("memory", "3072Mi", "3Gi", True),
        ("memory", "2Ti", "2048Gi", True),
        ("memory", "3072Mi", "3G", False),
        ("memory", "1Gi", "1", False),
        ("cpu", "1000m", "1", True),
        ("cpu", "500m", "0.5", True),
        ("cpu", "1", "2", False),
        ("cpu", "1", "a word", False),
    ],
)
def test_an_amount_that_is_written_otherwise_was_changed_by_nobody(
    name: str, asked: str, seen: str, same: bool
) -> None:
    changes = {"spec": {"slm": {"resources": {name: asked}}}}
    children = at_rest(changes)
    edit(SLM, *REQUESTS, "resources", "requests", name, value=seen)(children)
    assert (plan(children, changes) == Plan(())) is same


POLICY = ObjectKey("NetworkPolicy", "support-slm")
MOVED: list[tuple[str, Callable[[Children], None], ObjectKey, str]] = [
    ("gone", drop(LIVE), LIVE, "does not exist"),
    (
        "edited",
        edit(LIVE, "data", "live.json", value="{}"),
        LIVE,
        "was changed by somebody else at data.live.json",
    ),
    ("emptied", edit(LIVE, "data", value={}), LIVE, "was changed by somebody else at data.live.json"),
    (
        "label taken away",
        edit(LIVE, "metadata", "labels", value={}),
        LIVE,
        "was changed by somebody else at metadata.labels.app.kubernetes.io/name",
    ),
    (
        "list shortened",
        edit(POLICY, "spec", "ingress", value=[]),
        POLICY,
        "was changed by somebody else at spec.ingress",
    ),
    (
        "list item edited",
        edit(POLICY, "spec", "ingress", 1, "ports", 0, "port", value=1),
        POLICY,
        "was changed by somebody else at spec.ingress[1].ports[0].port",
    ),
    (
        "Serve config edited",
        edit(GATEWAY, "spec", "serveConfigV2", value="applications: []"),
        GATEWAY,
        "was changed by somebody else at spec.serveConfigV2",
    ),
]


@pytest.mark.parametrize(
    ("change", "key", "reason"), [row[1:] for row in MOVED], ids=[row[0] for row in MOVED]
)
def test_drift_is_repaired(change: Callable[[Children], None], key: ObjectKey, reason: str) -> None:
    children = at_rest()
    change(children)
    assert told(plan(children)) == [(ActionKind.APPLY, key, reason)]


CHANGED: list[tuple[str, dict[str, Any], list[tuple[ActionKind, ObjectKey]]]] = [
    ("mode", {"spec": {"mode": "LLMOnly"}}, [(ActionKind.APPLY, LIVE)]),
    ("SLM image, Recreate", {"spec": {"slm": {"image": "other:1"}}}, [(ActionKind.DELETE, SLM)]),
    (
        "SLM image, Surge",
        {"spec": {"slm": {"image": "other:1", "rollout": "Surge"}}},
        [(ActionKind.APPLY, SLM)],
    ),
    ("SLM bounds", {"spec": {"slm": {"scaling": {"maxReplicas": 3}}}}, [(ActionKind.APPLY, SLM)]),
    (
        "gateway image",
        {"spec": {"pods": {"image": "other:1"}, "slm": {"image": CLUSTER.serve_image}}},
        [(ActionKind.APPLY, GATEWAY)],
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), [row[1:] for row in CHANGED], ids=[row[0] for row in CHANGED]
)
def test_a_change_of_the_route_touches_what_it_changes(
    changes: dict[str, Any], expected: list[tuple[ActionKind, ObjectKey]]
) -> None:
    planned = plan(at_rest(), changes)
    # The accepted spec is kept with every change of it.
    assert [(action.kind, action.key) for action in planned.actions] == [
        (ActionKind.APPLY, ACCEPTED),
        *expected,
    ]


def test_a_field_that_the_route_asks_for_no_more_is_found() -> None:
    with_selector = {"spec": {"slm": {"resources": {"nodeSelector": {"pool": "a"}}, "rollout": "Surge"}}}
    planned = plan(at_rest(with_selector), {"spec": {"slm": {"rollout": "Surge"}}})
    differs = "differs from what the route asks for"
    assert told(planned) == [(ActionKind.APPLY, ACCEPTED, differs), (ActionKind.APPLY, SLM, differs)]


def test_a_recreated_slm_is_made_again_once_the_old_is_gone() -> None:
    changes = {"spec": {"slm": {"image": "other:1"}}}
    children = at_rest()
    children[SLM]["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
    children[SLM]["metadata"]["finalizers"] = ["ray.io/kuberay"]
    waiting = plan(children, changes)
    assert [action.key for action in waiting.actions] == [ACCEPTED]
    [obstacle] = waiting.obstacles
    assert obstacle.reason is ConditionReason.TERMINATING
    assert obstacle.message == (
        "RayService support-slm is being deleted and waits for ray.io/kuberay, which KubeRay takes away when it runs"
    )
    del children[SLM]
    assert told(plan(children, changes))[1:] == [(ActionKind.APPLY, SLM, "does not exist")]


def test_what_is_wanted_no_more_is_deleted_if_it_is_ours() -> None:
    children = at_rest()
    wanted = route()
    without_monitor = tuple(m for m in render_objects(wanted, CLUSTER) if key_of(m) != MONITOR)
    planned = plan_actions(wanted, without_monitor, Observation(children=children))
    assert told(planned) == [(ActionKind.DELETE, MONITOR, "is no longer wanted")]
    children[MONITOR]["metadata"]["ownerReferences"] = [{"uid": "of-somebody"}]
    assert plan_actions(wanted, without_monitor, Observation(children=children)) == Plan(())


@pytest.mark.parametrize("key", [LIVE, TOKENS, GATEWAY], ids=str)
def test_an_object_of_somebody_else_is_never_touched(key: ObjectKey) -> None:
    children = at_rest()
    children[key] = {"kind": key.kind, "metadata": {"name": key.name}}
    planned = plan(children)
    assert planned.actions == ()
    [obstacle] = planned.obstacles
    assert (obstacle.key, obstacle.reason) == (key, ConditionReason.NAME_TAKEN)
    assert obstacle.message == f"{key} exists and is not this route's: rename the route, or delete it"


def test_an_object_of_a_route_of_the_same_name_and_another_life_is_waited_for() -> None:
    children = at_rest()
    children[LIVE]["metadata"]["ownerReferences"][0]["uid"] = "of-before"
    planned = plan(children)
    assert planned.actions == ()
    [obstacle] = planned.obstacles
    assert obstacle.reason is ConditionReason.TERMINATING
    assert obstacle.message == (
        "ConfigMap support-live is of a deleted route of the same name and waits for the garbage collector"
    )


def test_nothing_is_made_beside_the_ledger_of_a_deleted_route() -> None:
    """Else the next round would find what spends without a ledger, and call the past unknown."""
    children = {LEDGER: at_rest()[LEDGER]}
    children[LEDGER]["metadata"]["ownerReferences"][0]["uid"] = "of-before"
    planned = plan(children)
    assert planned.actions == ()
    assert [obstacle.key for obstacle in planned.obstacles] == [LEDGER]
    assert plan({}).actions[0].manifest["data"] == {"past": "none"}  # type: ignore[index]


BINDING = ObjectKey("RoleBinding", "support-gateway")


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        (
            edit(BINDING, "roleRef", "name", value="admin"),
            BINDING,
            "has another roleRef, which the API server lets nobody change",
        ),
        (
            lambda children: children[LIVE].update(immutable=True, data={"live.json": "{}"}),
            LIVE,
            "has another data while it is immutable, which the API server lets nobody change",
        ),
    ],
    ids=["roleRef", "immutable ConfigMap"],
)
def test_what_cannot_be_changed_is_made_anew(
    change: Callable[[Children], None], key: ObjectKey, reason: str
) -> None:
    children = at_rest()
    change(children)
    assert told(plan(children)) == [(ActionKind.DELETE, key, reason)]
    del children[key]
    assert told(plan(children)) == [(ActionKind.APPLY, key, "does not exist")]


def test_a_pod_monitor_is_made_once_its_kind_exists() -> None:
    children = at_rest()
    del children[MONITOR]
    assert plan(children, missing_kinds=frozenset({"PodMonitor"})) == Plan(())
    assert told(plan(children)) == [(ActionKind.APPLY, MONITOR, "does not exist")]


def test_an_owner_reference_that_was_taken_away_is_put_back() -> None:
    children = at_rest()
    del children[LIVE]["metadata"]["ownerReferences"]
    assert told(plan(children)) == [
        (ActionKind.APPLY, LIVE, "was changed by somebody else at metadata.ownerReferences")
    ]


def test_without_kuberay_the_rest_is_made_and_what_is_missing_is_said() -> None:
    planned = plan({}, missing_kinds=frozenset({"RayService"}))
    assert not [action for action in planned.actions if action.key.kind == "RayService"]
    assert len(planned.actions) == len(at_rest()) - 2
    assert {obstacle.reason for obstacle in planned.obstacles} == {ConditionReason.KUBERAY_MISSING}


def ray_cluster(**bounds: int) -> dict[str, Any]:
    groups = [{"groupName": "slm"} | bounds]
    return {"metadata": {"name": "support-slm-abcde"}, "spec": {"workerGroupSpecs": groups}}


def test_bounds_are_carried_to_the_live_ray_cluster() -> None:
    changes = {"spec": {"slm": {"scaling": {"minReplicas": 2, "maxReplicas": 5}}}}
    clusters = {Part.SLM: ray_cluster(minReplicas=1, maxReplicas=1)}
    [action] = plan(at_rest(changes), changes, ray_clusters=clusters).actions
    assert (action.kind, action.key) == (ActionKind.RESIZE, ObjectKey("RayCluster", "support-slm-abcde"))
    assert action.patch == (
        {"op": "test", "path": "/spec/workerGroupSpecs/0/groupName", "value": "slm"},
        {"op": "add", "path": "/spec/workerGroupSpecs/0/maxReplicas", "value": 4},
    )
    same = {Part.SLM: ray_cluster(minReplicas=1, maxReplicas=4)}
    assert plan(at_rest(changes), changes, ray_clusters=same) == Plan(())


def test_stamping_leaves_the_manifest_alone() -> None:
    [manifest] = [m for m in render_objects(route(), CLUSTER) if key_of(m) == SLM]
    before = copy.deepcopy(manifest)
    assert stamp_manifest(manifest) != manifest
    assert manifest == before
