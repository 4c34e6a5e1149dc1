"""New pods beside old ones under continuous traffic: a second SLM, a second gateway. No request fails, the route stays
Ready, every client and replica comes to be on the new one's side, and both gateways spend from one ledger. After
`test_traffic`, which knows one gateway.
"""

import time
from datetime import datetime
from decimal import Decimal

from openai import APIStatusError, OpenAI

from support.kind_tier import VERSION, Cluster, Provider
from support.kind_traffic import CLIENTS, Asked, Phase, Traffic, note

LEFT_SECONDS = 120.0
"""Within which nobody asks the old one any more, on a busy machine; connections are given up after 30."""
PROVIDER_USD = Decimal("0.0000152")
"""The least that an answer of the provider costs: eight tokens, to a question of six."""


def clusters(cluster: Cluster, part: str) -> tuple[str, str]:
    """Return the active and the pending RayCluster of a part; empty where there is none."""
    status = cluster.json("get", "rayservice", f"support-{part}").get("status", {})
    told = [status.get(f"{word}ServiceStatus") or {} for word in ("active", "pending")]
    return told[0].get("rayClusterName", ""), told[1].get("rayClusterName", "")


def until_switched(cluster: Cluster, part: str, old: str) -> str:
    """Wait until another RayCluster serves, and return its name."""

    def switched() -> str:
        active, pending = clusters(cluster, part)
        return active if active not in ("", old) and not pending else ""

    return str(cluster.until(f"another cluster serves as {part}", switched, every=1))


def head(cluster: Cluster, ray_cluster: str) -> str:
    selector = f"ray.io/cluster={ray_cluster},ray.io/node-type=head"
    [pod] = cluster.json("get", "pods", "-l", selector)["items"]
    return str(pod["metadata"]["name"])


def remove_now(cluster: Cluster, ray_cluster: str) -> None:
    """Take an old cluster away before its hour is over: a small node has no room for a third."""
    cluster.kubectl("delete", "raycluster", ray_cluster, "--wait=false")
    cluster.kubectl("delete", "pods", "-l", f"ray.io/cluster={ray_cluster}", "--force", "--grace-period=0")


def answered(cluster: Cluster, ray_cluster: str, app: str) -> int:
    """Return how many requests a cluster's ingress has handed to an application."""
    where = f"/api/v1/namespaces/default/pods/{head(cluster, ray_cluster)}:9101/proxy/metrics"
    told = cluster.kubectl("get", "--raw", f"{where}?scope=backend")
    name = f'haproxy_backend_http_requests_total{{proxy="http-{app}"}}'
    return sum(int(line.rpartition(" ")[2]) for line in told.splitlines() if line.startswith(name))


def until_left(traffic: Traffic, ray_cluster: str, app: str) -> float:
    """Wait until a cluster's application is asked no more while every client is answered; return when that was."""

    def left() -> float:
        before, at = answered(traffic.cluster, ray_cluster, app), time.time()
        traffic.goes_on()
        return at if answered(traffic.cluster, ray_cluster, app) == before else 0.0

    what = f"nobody asks {app} of {ray_cluster}"
    return float(traffic.cluster.until(what, left, seconds=LEFT_SECONDS, every=1))


def stayed_ready(cluster: Cluster, since: float) -> bool:
    """Say whether Ready is True and has not turned since a moment."""
    ready = cluster.conditions()["Ready"]
    turned = datetime.fromisoformat(ready["lastTransitionTime"]).timestamp()
    return ready["status"] == "True" and turned <= since


def test_the_slm_is_rolled_with_a_second_one_beside_it(route: Cluster, traffic: Traffic) -> None:
    old, _ = clusters(route, "slm")
    with traffic.phase("SLM's CPU changed, Surge") as phase:
        route.patch({"slm": {"rollout": "Surge", "resources": {"cpu": "210m"}}})
        new = until_switched(route, "slm", old)
        switched = time.time()
        phase.took_effect = until_left(traffic, old, "slm")
        assert answered(route, new, "slm") > 0
        route.wait_until_whole()
    note(f"another SLM after {switched - phase.began:.0f} s, the old one left {phase.lasted(switched)} later")
    assert phase.failures == [], phase.told()
    assert {a.path for a in phase.asked if a.kind == "local"} == {"slm"}, (
        "the old one serves until the new one does"
    )
    assert stayed_ready(route, phase.began)
    remove_now(route, old)


def on_record(traffic: Traffic, phase: Phase) -> bool:
    """Say whether the keeper that the Service leads to knows each client's last request."""
    last: dict[tuple[str, bool], Asked] = {
        (a.kind, a.stream): a for a in traffic.asked() if a.began > phase.began
    }
    known = {record["request_id"] for record in traffic.records(phase.began)}
    return len(last) == CLIENTS and all(a.request_id in known for a in last.values())


def budget(cluster: Cluster) -> dict[str, Decimal]:
    """Return the numbers of the status, in US dollars."""
    told = cluster.route()["status"]["budget"]
    return {name: Decimal(told[f"{name}USD"]) for name in ("limit", "spent", "reserved")}


def ask_old(cluster: Cluster, ray_cluster: str) -> list[int]:
    """Ask a gateway that nobody else asks any more for the LLM; return how it answered."""
    found = []
    with (
        cluster.forward(f"pod/{head(cluster, ray_cluster)}", 8000) as url,
        OpenAI(base_url=f"{url}/v1", api_key="unused", timeout=60, max_retries=0) as client,
    ):
        for _ in range(5):
            try:
                client.chat.completions.create(
                    model="llm", messages=[{"role": "user", "content": "Write a sonnet about the sea."}]
                )
                found.append(200)
            except APIStatusError as error:
                found.append(error.status_code)
    return found


def test_the_gateway_is_upgraded_with_two_at_once(
    route: Cluster, traffic: Traffic, provider: Provider, again_image: str
) -> None:
    old, _ = clusters(route, "gateway")
    slm = route.route()["spec"]["slm"].get("image", f"hybridroute/serve:{VERSION}")
    before, attempts = budget(route), provider.attempts()
    with traffic.phase("gateway's image changed, two gateways at once") as phase:
        # The SLM keeps its own.
        route.patch({"pods": {"image": again_image}, "slm": {"image": slm}})
        until_switched(route, "gateway", old)
        switched = time.time()
        phase.took_effect = until_left(traffic, old, "router")
        route.until("the new keeper has every client's requests", lambda: on_record(traffic, phase), every=1)
        route.until("the new keeper hears from every path", lambda: heard(route), every=2)
        route.wait_until_whole()
    note(f"new gateway after {switched - phase.began:.0f} s, the old one left {phase.lasted(switched)} later")
    assert phase.failures == [], phase.told()
    assert stayed_ready(route, phase.began)
    # What the old one still holds is used up or refused, and counts either way.
    assert set(ask_old(route, old)) <= {200, 429}
    traffic.stop()
    billed = (provider.attempts() - attempts) * PROVIDER_USD
    route.until(
        "what was billed counts",
        lambda: (now := budget(route))["spent"] + now["reserved"] >= before["spent"] + billed,
        every=2,
    )
    after = budget(route)
    assert after["spent"] + after["reserved"] <= after["limit"]


def heard(cluster: Cluster) -> bool:
    """Say whether the status counts one replica of each path."""
    paths = cluster.route()["status"]["paths"]
    return {name: path["readyReplicas"] for name, path in paths.items()} == {"router": 1, "slm": 1, "llm": 1}
