"""What somebody takes away or changes comes back: children of a route within seconds, a lost head with its cluster."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.kind_tier import Cluster
from support.kind_traffic import Traffic, note

REPAIR_SECONDS = 10.0


def field(cluster: Cluster, kind: str, name: str, *path: str) -> Any:
    """Return a field of an object; None where object or field are not there."""
    told = cluster.kubectl("get", kind, name, "-o", "json", "--ignore-not-found")
    found = json.loads(told) if told.strip() else None
    for step in path:
        found = (found or {}).get(step)
    return found


CHANGES = {
    "networkpolicy/support-slm": {"spec": {"ingress": [{}]}},
    "rolebinding/support-gateway": {"subjects": []},
    "configmap/support-live": {"data": {"live.json": "{}"}},
    "poddisruptionbudget/support-gateway": {"spec": {"maxUnavailable": 7}},
}


@pytest.mark.parametrize("child", CHANGES)
def test_a_child_that_somebody_changes_is_as_it_was(route: Cluster, child: str) -> None:
    kind, name = child.split("/")
    [place] = CHANGES[child]
    before = field(route, kind, name, place)
    assert before
    route.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(CHANGES[child]))
    route.until(
        f"{child} is as it was",
        lambda: field(route, kind, name, place) == before,
        seconds=REPAIR_SECONDS,
        every=0.2,
    )


@pytest.mark.parametrize(
    "child", ["networkpolicy/support-slm", "role/support-gateway", "configmap/support-live"]
)
def test_a_child_that_somebody_deletes_is_there_again(route: Cluster, child: str) -> None:
    kind, name = child.split("/")
    before = field(route, kind, name, "metadata", "uid")
    route.kubectl("delete", kind, name)
    route.until(
        f"{child} is there again",
        lambda: field(route, kind, name, "metadata", "uid") not in (None, before),
        seconds=REPAIR_SECONDS,
        every=0.2,
    )


def measured(cluster: Cluster, what: str, holds: Callable[[], Any], *, seconds: float = 600.0) -> float:
    """Wait until something holds; return when it was seen."""
    cluster.until(what, holds, seconds=seconds, every=0.2)
    return time.time()


def test_an_slm_that_somebody_deletes_is_there_again_and_the_llm_carries(
    route: Cluster, traffic: Traffic
) -> None:
    def uid() -> Any:
        return field(route, "rayservice", "support-slm", "metadata", "uid")

    before = uid()
    with traffic.phase("SLM's RayService deleted") as phase:
        route.kubectl("delete", "rayservice", "support-slm", "--wait=false")
        gone = measured(route, "the old one is gone", lambda: uid() != before)
        remade = measured(route, "there is a new one", lambda: uid() is not None, seconds=REPAIR_SECONDS)
        traffic.until_answered(phase, lambda a: a.kind == "local" and a.path == "llm")
        route.wait_until_whole()
        traffic.until_answered(phase, lambda a: a.kind == "local" and a.path == "slm", since=remade)
    serves = min(a.began for a in phase.asked if a.path == "slm" and a.began > remade)
    note(
        f"SLM's RayService: gone after {gone - phase.began:.1f} s, made again {remade - gone:.1f} s later, "
        f"serving {serves - remade:.0f} s after that"
    )
    assert phase.failures == [], phase.told()


def test_the_gateways_head_is_lost_and_the_route_comes_back(route: Cluster, traffic: Traffic) -> None:
    [head] = route.pods(route="support", part="gateway", node="head")
    with traffic.phase("gateway's head pod killed") as phase:
        killed = time.time()
        route.kubectl("delete", "pod", head["metadata"]["name"], "--grace-period=0", "--force")

        def answered_again() -> bool:
            asked = [a for a in traffic.asked() if a.ended > killed]
            lost = max((a.ended for a in asked if a.error), default=killed)
            return {a.path for a in asked if not a.error and a.began > lost > killed} == {"slm", "llm"}

        route.until("both paths answer again", answered_again, every=2)
        route.wait_until_whole()
    failures = phase.failures
    served = [a for a in phase.asked if not a.error and a.ended > max(f.ended for f in failures)]
    back = {path: min(a.ended for a in served if a.path == path) - killed for path in ("llm", "slm")}
    note(
        f"gateway's head: the LLM path is back after {back['llm']:.0f} s, the SLM's after {back['slm']:.0f} s"
    )
    # One head is the whole gateway: what is asked meanwhile fails, and nothing does once it is back.
    assert min(f.ended for f in failures) >= killed
    assert max(f.began for f in failures) <= killed + min(back.values())
