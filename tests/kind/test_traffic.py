"""Continuous traffic through everything that a day brings: changes fail no request, and kills only what was in flight
on what was killed. `build/kind-figures.txt` has the figures of each phase.
"""

import json
import time

import pytest

from support.kind_tier import Cluster, Provider
from support.kind_traffic import CLIENTS, Asked, Phase, Traffic

SYSTEM = "hybridroute-system"
OPERATOR = "app.kubernetes.io/component=operator"


def assert_only_in_flight(phase: Phase, killed: float, most: int) -> None:
    """Every failure was under way when it was killed, or came in before the ingress noticed."""
    assert len(phase.failures) <= most, phase.told()
    for failure in phase.failures:
        assert failure.began <= killed + NOTICE_SECONDS, (failure, killed)
        assert failure.ended >= killed - NOTICE_SECONDS, (failure, killed)


NOTICE_SECONDS = 3.0
"""HAProxy stops handing requests to a dead replica within 0.04 s; a busy machine, and the time that `kubectl exec`
takes from the kill to its return, are added.
"""


def by_slm(asked: Asked) -> bool:
    return asked.kind == "local" and asked.path == "slm"


def by_llm(asked: Asked) -> bool:
    return asked.kind == "local" and asked.path == "llm"


def gateway_pod(cluster: Cluster) -> str:
    [pod] = cluster.pods(route="support", part="gateway", node="head")
    return str(pod["metadata"]["name"])


def test_a_threshold_changes(route: Cluster, traffic: Traffic) -> None:
    with traffic.phase("threshold 0.7 to 1 and back") as phase:
        route.patch({"routing": {"confidence": {"threshold": "1"}}})
        traffic.until_answered(phase, by_llm)
    assert phase.failures == []
    with traffic.phase("threshold back") as phase:
        route.patch({"routing": {"confidence": None}})
        traffic.until_answered(phase, by_slm)
    assert phase.failures == []


def test_a_price_changes(route: Cluster, traffic: Traffic) -> None:
    [upstream] = route.route()["spec"]["llm"]["upstreams"]
    before = next(a.cost_usd for a in reversed(traffic.asked()) if paid(a))
    prices = {"inputPerMillionTokensUSD": "4.00", "outputPerMillionTokensUSD": "16.00"}
    with traffic.phase("price times 10") as phase:
        route.patch({"llm": {"upstreams": [upstream | {"pricing": prices}]}})
        traffic.until_answered(phase, lambda a: paid(a) and a.cost_usd != before)
    assert phase.failures == []


def test_the_providers_key_is_rotated(route: Cluster, traffic: Traffic, provider: Provider) -> None:
    head = gateway_pod(route)
    with traffic.phase("provider's key changed in its Secret") as phase:
        route.kubectl(
            "patch", "secret", "provider", "-p", json.dumps({"stringData": {"apiKey": "sk-second"}})
        )
        route.until("the new key is used", lambda: provider.seen().get("Bearer sk-second"), every=1)
        phase.took_effect = time.time()
        traffic.goes_on()
        seen = provider.seen()
        traffic.goes_on()
        assert provider.seen()["Bearer sk-first"] == seen["Bearer sk-first"], "the old key is still used"
    assert phase.failures == []
    assert phase.took_effect - phase.began < ROTATION_SECONDS
    assert gateway_pod(route) == head


ROTATION_SECONDS = 120.0
"""The kubelet brings a Secret's change into a pod's files once a minute or so; the proxy looks at each attempt."""


def paid(asked: Asked) -> bool:
    return asked.kind == "remote" and not asked.stream and asked.path == "llm" and not asked.error


def test_the_llm_path_scales_to_three_and_back(route: Cluster, traffic: Traffic) -> None:
    def replicas(count: int) -> None:
        route.patch({"llm": {"scaling": {"minReplicas": count, "maxReplicas": count}}})
        route.until(
            f"{count} replicas of the LLM path",
            lambda: route.route()["status"]["paths"]["llm"]["readyReplicas"] == count,
            every=2,
        )

    pod = gateway_pod(route)
    for count in (3, 1):
        with traffic.phase(f"LLM path to {count}") as phase:
            replicas(count)
        assert phase.failures == []
    assert gateway_pod(route) == pod


def test_the_operator_is_killed_and_catches_up(route: Cluster, traffic: Traffic) -> None:
    with traffic.phase("operator killed") as phase:
        route.kubectl("delete", "pod", "-n", SYSTEM, "-l", OPERATOR, "--force", "--grace-period=0")
        route.patch({"mode": "LLMOnly"})
        traffic.until_answered(phase, by_llm)
    assert phase.failures == []
    with traffic.phase("mode back") as phase:
        route.patch({"mode": "Hybrid"})
        traffic.until_answered(phase, by_slm)
    assert phase.failures == []


def test_the_operator_is_upgraded(route: Cluster, traffic: Traffic) -> None:
    with traffic.phase("helm upgrade of the operator") as phase:
        route.run(
            *(
                "helm",
                "upgrade",
                "hybridroute",
                "charts/hybridroute",
                "--namespace",
                SYSTEM,
                "--reuse-values",
            ),
            *("--set", "podAnnotations.upgraded=yes", "--wait", "--timeout", "10m"),
        )
    assert phase.failures == []
    route.wait_until_whole()


def test_the_slms_image_changes_and_the_llm_carries(
    route: Cluster, traffic: Traffic, again_image: str
) -> None:
    with traffic.phase("SLM's image, Recreate") as phase:
        route.patch({"slm": {"image": again_image}})
        traffic.until_answered(phase, by_llm)
        route.until("the SLM's pods have the new image", lambda: images(route) == {again_image}, every=2)
        route.wait_until_whole()
        traffic.until_answered(phase, by_slm, since=time.time())
    assert phase.failures == []


def images(cluster: Cluster) -> set[str]:
    pods = cluster.pods(route="support", part="slm")
    return {pod["spec"]["containers"][0]["image"] for pod in pods}


@pytest.mark.parametrize(("app", "most"), [("llm-proxy", CLIENTS), ("router", 2 * CLIENTS)])
def test_a_replica_is_killed(route: Cluster, traffic: Traffic, app: str, most: int) -> None:
    with traffic.phase(f"{app} replica killed") as phase:
        traffic.kill_process(gateway_pod(route), f"ray::ServeReplica:{app}")
        killed = time.time()
    assert_only_in_flight(phase, killed, most)
    # A failure that left the route is on record; what never reached it, is not.
    known = {record["request_id"]: record["outcome"] for record in traffic.records(phase.began - 120)}
    for failure in phase.failures:
        if failure.request_id is not None:
            assert known[failure.request_id] != "ok", failure


def test_the_slms_pod_is_deleted(route: Cluster, traffic: Traffic) -> None:
    pods = route.pods(route="support", part="slm")
    serving = next((p for p in pods if p["metadata"]["labels"]["ray.io/node-type"] == "worker"), pods[0])
    with traffic.phase("SLM's pod deleted") as phase:
        killed = time.time()
        route.kubectl("delete", "pod", serving["metadata"]["name"], "--grace-period=0", "--force")
        traffic.until_answered(phase, by_llm)
        route.wait_until_whole()
        traffic.until_answered(phase, by_slm, since=time.time())
    assert all(failure.stream for failure in phase.failures), phase.told()
    assert_only_in_flight(phase, killed, CLIENTS)
