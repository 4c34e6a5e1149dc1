"""An SLM that asks for a GPU: waited for while the LLM serves, used as soon as a node has one.

The GPU is advertised by the test; the model in the pod runs on CPU.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from support.kind_tier import Cluster
from support.kind_traffic import Traffic, note

GPU = "nvidia.com/gpu"


def advertise(cluster: Cluster, gpus: int) -> None:
    """Say that the node has so many GPUs, as a device plugin would."""
    [node] = cluster.json("get", "nodes")["items"]
    where = "/status/capacity/" + GPU.replace("/", "~1")
    change = {"op": "add", "path": where, "value": str(gpus)}
    name = node["metadata"]["name"]
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=json", "-p", json.dumps([change]))


@pytest.fixture
def no_gpu(route: Cluster) -> Iterator[None]:
    """A node without GPUs, and afterwards a route that needs none."""
    advertise(route, 0)
    yield
    route.patch({"slm": {"resources": {"gpus": 0}}})
    advertise(route, 0)
    route.wait_until_whole()


def ready_at(pod: dict[str, Any]) -> float:
    """Return when a pod became ready, which a worker is once its replica answers."""
    [since] = [c["lastTransitionTime"] for c in pod["status"]["conditions"] if c["type"] == "Ready"]
    return datetime.fromisoformat(since).timestamp()


@pytest.mark.usefixtures("no_gpu")
def test_the_llm_serves_until_a_gpu_appears_and_then_the_slm_does(route: Cluster, traffic: Traffic) -> None:
    with traffic.phase("SLM asks for a GPU that no node has") as phase:
        route.patch({"slm": {"resources": {"gpus": 1}, "pricing": {"gpuHourUSD": "0.80"}}})
        waiting = route.until(
            "the SLM waits for a GPU",
            lambda: (c := route.conditions()) and c["SLMReady"]["reason"] == "Unschedulable" and c,
        )
        traffic.until_answered(phase, lambda a: a.kind == "local" and a.path == "llm" and a.gate == "health")
    assert phase.failures == [], phase.told()
    assert waiting["Ready"]["status"] == "True"
    assert waiting["Ready"]["reason"] == "LLMCarries"
    assert waiting["Degraded"]["status"] == "True"
    assert f"Insufficient {GPU}" in waiting["Degraded"]["message"]
    assert waiting["BudgetAvailable"]["status"] == "True"
    [pod] = route.pods(route="support", part="slm", node="worker")
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    assert "nodeName" not in pod["spec"]

    with traffic.phase("a GPU appears") as phase:
        advertise(route, 1)
        traffic.until_answered(phase, lambda a: a.path == "slm" and a.gate == "confidence")
        route.wait_until_whole()
    assert phase.failures == [], phase.told()
    [pod] = route.pods(route="support", part="slm", node="worker")
    assert phase.took_effect is not None
    note(
        f"the pod with the GPU was ready after {ready_at(pod) - phase.began:.0f} s, "
        f"and the SLM asked {phase.took_effect - ready_at(pod):.0f} s later"
    )
    node = route.json("get", "node", pod["spec"]["nodeName"])
    assert node["status"]["allocatable"][GPU] == "1"
    [head] = route.pods(route="support", part="slm", node="head")
    assert GPU not in head["spec"]["containers"][0]["resources"]["requests"]
