"""An SLM that asks for a GPU: waited for while the LLM serves, used as soon as a node has one.

The GPU is advertised by the test; the model in the pod runs on CPU.
"""

import json
from collections.abc import Iterator

import pytest
from openai import OpenAI

from support.kind_tier import Cluster

GPU = "nvidia.com/gpu"
LOCAL = "I want to lock my current account right away"


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


@pytest.mark.usefixtures("no_gpu")
def test_the_llm_serves_until_a_gpu_appears_and_then_the_slm_does(route: Cluster) -> None:
    route.patch({"slm": {"resources": {"gpus": 1}, "pricing": {"gpuHourUSD": "0.80"}}})
    waiting = route.until(
        "the SLM waits for a GPU",
        lambda: (c := route.conditions()) and c["SLMReady"]["reason"] == "Unschedulable" and c,
    )
    assert waiting["Ready"]["status"] == "True"
    assert waiting["Ready"]["reason"] == "LLMCarries"
    assert waiting["Degraded"]["status"] == "True"
    assert f"Insufficient {GPU}" in waiting["Degraded"]["message"]
    assert waiting["BudgetAvailable"]["status"] == "True"
    [pod] = route.pods(route="support", part="slm", node="worker")
    assert pod["spec"]["containers"][0]["resources"]["limits"][GPU] == "1"
    assert "nodeName" not in pod["spec"]
    assert ask(route) == ("llm", "health")

    advertise(route, 1)
    route.wait_until_whole()
    [pod] = route.pods(route="support", part="slm", node="worker")
    node = route.json("get", "node", pod["spec"]["nodeName"])
    assert node["status"]["allocatable"][GPU] == "1"
    [head] = route.pods(route="support", part="slm", node="head")
    assert GPU not in head["spec"]["containers"][0]["resources"]["requests"]
    assert ask(route) == ("slm", "confidence")


def ask(cluster: Cluster) -> tuple[str, str]:
    """Return path and gate of an answered local prompt."""
    with (
        cluster.forward("service/support-gateway-serve-svc", 8000) as url,
        OpenAI(base_url=f"{url}/v1", api_key="unused", timeout=120, max_retries=0) as client,
    ):
        raw = client.chat.completions.with_raw_response.create(
            model="hybridroute", messages=[{"role": "user", "content": LOCAL}], max_tokens=8
        )
    assert raw.parse().choices[0].message.content
    return raw.headers["x-hybridroute-path"], raw.headers["x-hybridroute-gate"]
