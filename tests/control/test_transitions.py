"""A walk of one route through valid and misguided specs on a real API server, seeded.

After each step the plan for the last valid spec is empty: nothing is missing, left over or different, and nothing was
restarted. `TRANSITIONS=500 make test-control` walks further.
"""

import os
import random
from typing import Any

import pytest

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_operator.observation import Observation
from hybridroute_operator.plan import Plan, plan_actions
from hybridroute_render.kubernetes.kinds import KINDS, ObjectKey
from hybridroute_render.kubernetes.objects import render_objects
from hybridroute_render.kubernetes.settings import ClusterSettings
from support.api_server import ApiServer
from support.operator_process import OperatorProcess
from support.routes import merged, route_document
from support.transitions import MISGUIDED, VALID

STEPS = int(os.environ.get("TRANSITIONS", "25"))
SEED = 20261124
NAMESPACE = "walk"
ROUTES = f"/apis/hybridroute.dev/v1alpha1/namespaces/{NAMESPACE}/hybridroutes"
SETTINGS = ClusterSettings(serve_image="hybridroute/serve:0.1.0")


def read_children(cluster: ApiServer) -> dict[ObjectKey, dict[str, Any]]:
    found = {}
    for kind in KINDS.values():
        query = "?labelSelector=hybridroute.dev/route%3Dsupport"
        status, answer = cluster.request("GET", kind.collection(NAMESPACE) + query)
        if status == 200:
            of_kind = {"apiVersion": kind.api_version, "kind": kind.name}
            found |= {
                ObjectKey(kind.name, item["metadata"]["name"]): item | of_kind for item in answer["items"]
            }
    return found


def plan_for(cluster: ApiServer, changes: dict[str, Any]) -> Plan:
    """Plan against the cluster as it is, for the spec as it was applied."""
    _, stored = cluster.request("GET", f"{ROUTES}/support")
    metadata = {"metadata": {"namespace": NAMESPACE, "uid": stored["metadata"]["uid"]}}
    applied = merged(route_document(changes), metadata)
    # Defaults are the API server's, as the operator sees them.
    dry = cluster.request("POST", f"{ROUTES}?dryRun=All", merged(applied, {"metadata": {"name": "dry"}}))[1]
    route = HybridRoute.model_validate(applied | {"spec": dry["spec"]})
    return plan_actions(route, render_objects(route, SETTINGS), Observation(children=read_children(cluster)))


def verdict_is(accepted: bool, generation: int) -> Any:
    wanted = ("True" if accepted else "False", generation)

    def holds(_: int, route: dict[str, Any]) -> bool:
        conditions = (route.get("status") or {}).get("conditions") or []
        told = [(c["status"], c["observedGeneration"]) for c in conditions if c["type"] == "Accepted"]
        return told == [wanted]

    return holds


@pytest.mark.timeout(30 * STEPS)
def test_every_transition_ends_as_it_should(operator: OperatorProcess, cluster: ApiServer) -> None:
    choose = random.Random(SEED)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert cluster.apply(body, f"/api/v1/namespaces/{NAMESPACE}")[0] == 201
    valid: dict[str, Any] = {}
    refused_at = {"api": 0, "operator": 0}
    for step in range(STEPS):
        misguided = step > 0 and choose.random() < 0.3
        changes = choose.choice(MISGUIDED if misguided else VALID)
        status, answer = cluster.apply(route_document(changes), f"{ROUTES}/support")
        if status == 422:
            assert misguided, answer["message"]
            refused_at["api"] += 1
            continue
        assert status in (200, 201), answer["message"]
        valid = valid if misguided else changes
        refused_at["operator"] += misguided
        generation = answer["metadata"]["generation"]
        cluster.wait_for(f"{ROUTES}/support", verdict_is(not misguided, generation))
        cluster.wait_for(
            f"{ROUTES}/support", lambda *_, spec=valid: plan_for(cluster, spec) == Plan(()), seconds=30
        )
    assert refused_at["api"] > 0
    assert refused_at["operator"] > 0
    assert operator.metric("hybridroute_operator_leading") == 1
