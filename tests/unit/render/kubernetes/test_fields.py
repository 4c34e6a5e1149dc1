"""Every field that only a cluster honours changes what is applied there, and nothing local can be asked of it."""

from typing import Any

import pytest

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.fields import walk_fields
from hybridroute_render.kubernetes.objects import render_objects
from hybridroute_render.kubernetes.problems import cluster_problems
from support.golden import CLUSTER
from support.routes import merged, route_of
from support.rule_cases import slm, upstream

GPU = slm(resources={"gpus": 1}, pricing={"gpuHourUSD": "0.80"})
TOLERATED = slm(resources={"tolerations": [{"key": "gpu", "value": "a", "effect": "NoSchedule"}]})
AUTH = {"spec": {"auth": {"apiKeysSecretName": "clients"}}}
AUTHORITIES = upstream(caBundleRef={"configMapName": "authorities"})
AUTHORITIES_SECRET = upstream(caBundleRef={"secretName": "authorities"})
POLICY = {"spec": {"routing": {"policy": {"configMapName": "support-policy"}}}}
SECRET = upstream(credentials={"secretName": "provider"})


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # field, a change of it, what else the route must have
    ("spec.slm.image", slm(image="registry/slm:2"), {}),
    ("spec.slm.rollout", slm(rollout="Surge"), {}),
    ("spec.slm.resources.gpus", slm(resources={"gpus": 2}), GPU),
    ("spec.slm.resources.cpu", slm(resources={"cpu": "4"}), {}),
    ("spec.slm.resources.memory", slm(resources={"memory": "4Gi"}), {}),
    ("spec.slm.resources.nodeSelector", slm(resources={"nodeSelector": {"gpu": "a100"}}), {}),
    ("spec.slm.resources.tolerations", TOLERATED, {}),
    ("spec.slm.resources.priorityClassName", slm(resources={"priorityClassName": "high"}), {}),
    ("spec.slm.resources.runtimeClassName", slm(resources={"runtimeClassName": "nvidia"}), {}),
    ("spec.slm.pricing.gpuHourUSD", slm(pricing={"gpuHourUSD": "0.90"}), GPU),
    ("spec.llm.upstreams.*.credentials.secretName", upstream(credentials={"secretName": "other"}), SECRET),
    ("spec.llm.upstreams.*.credentials.key", upstream(credentials={"key": "token"}), SECRET),
    (
        "spec.llm.upstreams.*.caBundleRef.configMapName",
        upstream(caBundleRef={"configMapName": "other"}),
        AUTHORITIES,
    ),
    (
        "spec.llm.upstreams.*.caBundleRef.secretName",
        upstream(caBundleRef={"secretName": "other"}),
        AUTHORITIES_SECRET,
    ),
    ("spec.llm.upstreams.*.caBundleRef.key", upstream(caBundleRef={"key": "tls.pem"}), AUTHORITIES),
    (
        "spec.routing.policy.configMapName",
        {"spec": {"routing": {"policy": {"configMapName": "other"}}}},
        POLICY,
    ),
    ("spec.routing.policy.key", {"spec": {"routing": {"policy": {"key": "other"}}}}, POLICY),
    ("spec.auth.apiKeysSecretName", spec(auth={"apiKeysSecretName": "others"}), AUTH),
    ("spec.auth.apiKeysSecretKey", spec(auth={"apiKeysSecretKey": "others.yaml"}), AUTH),
    ("spec.records.claimName", spec(records={"claimName": "records"}), {}),
    ("spec.topology", spec(topology="HA"), {}),
    ("spec.pods.image", spec(pods={"image": "registry/serve:2"}), {}),
    ("spec.pods.imagePullSecrets", spec(pods={"imagePullSecrets": ["registry"]}), {}),
    ("spec.pods.priorityClassName", spec(pods={"priorityClassName": "high"}), {}),
]
TOLERATIONS = [{"key": "tpu"}, {"value": "b"}, {"effect": "NoExecute"}]


@pytest.mark.parametrize(("field", "change", "need"), CASES, ids=[case[0] for case in CASES])
def test_field_bites(field: str, change: dict[str, Any], need: dict[str, Any]) -> None:
    before, after = route_of(need), route_of(merged(need, change))
    assert render_objects(before, CLUSTER) != render_objects(after, CLUSTER)


@pytest.mark.parametrize("change", TOLERATIONS, ids=lambda change: next(iter(change)))
def test_each_part_of_a_toleration_bites(change: dict[str, Any]) -> None:
    after = merged(TOLERATED, slm(resources={"tolerations": [change]}))
    assert render_objects(route_of(TOLERATED), CLUSTER) != render_objects(route_of(after), CLUSTER)


def test_each_field_that_only_a_cluster_honours_has_a_case() -> None:
    fields = {
        ".".join(field.path)
        for field in walk_fields(HybridRoute)
        if "x-hybridroute-cluster-only" in (field.info.json_schema_extra or {})
    }
    assert fields == {case[0] for case in CASES}


PROBLEMS: list[tuple[dict[str, Any], str, str]] = [
    (
        slm(model={"uri": "./model.gguf"}),
        "spec.slm.model.uri",
        "is relative to a file that a cluster does not have: give the absolute path of a file in the SLM's image",
    ),
    (
        upstream(credentials={"env": "KEY"}),
        "spec.llm.upstreams.0.credentials",
        "has no secretName, and a cluster reads keys from Secrets alone: make a Secret and name it",
    ),
    (
        upstream(caBundle="ca.pem"),
        "spec.llm.upstreams.0.caBundle",
        "is relative to a file that a cluster does not have: name a ConfigMap or Secret in caBundleRef",
    ),
    (
        {"spec": {"routing": {"policy": {"file": "support.artifact"}}}},
        "spec.routing.policy",
        "has no configMapName, and a cluster reads policies from ConfigMaps alone: make one and name it",
    ),
    (
        {"spec": {"auth": {"apiKeysFile": "keys.yaml"}}},
        "spec.auth",
        "has no apiKeysSecretName, and a cluster reads keys from Secrets alone: make a Secret and name it",
    ),
]


@pytest.mark.parametrize(("changes", "place", "message"), PROBLEMS, ids=[case[1] for case in PROBLEMS])
def test_what_only_one_machine_has_is_a_problem(changes: dict[str, Any], place: str, message: str) -> None:
    [problem] = cluster_problems(route_of(changes))
    assert ".".join(map(str, problem.location)) == place
    assert problem.message == message


def test_a_route_for_both_has_no_problem() -> None:
    reached = upstream(
        credentials={"env": "KEY", "secretName": "provider"},
        caBundle="ca.pem",
        caBundleRef={"configMapName": "authorities"},
    )
    auth = {"spec": {"auth": {"apiKeysFile": "clients.yaml", "apiKeysSecretName": "clients"}}}
    policy = {"spec": {"routing": {"policy": {"file": "p", "configMapName": "support-policy"}}}}
    both = merged(merged(merged(reached, auth), policy), slm(model={"uri": "/m.gguf"}))
    assert cluster_problems(route_of(both)) == ()
