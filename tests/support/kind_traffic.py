"""Continuous traffic in the cluster, read by phases: what was asked while something changed, and how it went."""

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.kind_tier import ROOT, Cluster

__all__ = ["CLIENTS", "Asked", "Phase", "Traffic", "burst_of", "note"]

CLIENTS = 4
"""Clients that ask without a pause: of each path one that streams and one that does not."""
FIGURES = ROOT / "build" / "kind-figures.txt"

_KILL_ONE = """
import os, sys
from pathlib import Path
for line in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        words = line.read_text()
    except OSError:
        continue
    if words.startswith(sys.argv[1]):
        os.kill(int(line.parent.name), 9)
        print("killed")
        break
"""
_READ_RECORDS = """
import sys, urllib.request
url, token = sys.argv[1:]
request = urllib.request.Request(url, headers={"x-hybridroute-internal-token": token})
print(urllib.request.urlopen(request, timeout=30).read().decode())
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its client saw it."""

    kind: str
    """`local` or `remote`."""
    stream: bool
    began: float
    ended: float
    error: str
    path: str | None
    gate: str | None
    request_id: str | None
    cost_usd: str | None


@dataclass
class Phase:
    """A stretch of the traffic."""

    name: str
    began: float
    ended: float = 0.0
    asked: list[Asked] = field(default_factory=list)
    took_effect: float | None = None
    """When the first request was answered in the new way."""

    @property
    def failures(self) -> list[Asked]:
        return [item for item in self.asked if item.error]

    def lasted(self, since: float) -> str:
        """Return the seconds from a moment until it took effect."""
        return "?" if self.took_effect is None else f"{max(0.0, self.took_effect - since):.0f} s"

    def told(self) -> str:
        """Return the phase in a line."""
        longest = max(item.ended - item.began for item in self.asked)
        effect = "" if self.took_effect is None else f", in force after {self.took_effect - self.began:.1f} s"
        errors = dict(Counter(item.error[:80] for item in self.failures))
        paths = dict(Counter(item.path for item in self.asked if not item.error))
        return (
            f"{self.name}: {self.ended - self.began:.0f} s, {len(self.asked)} requests {paths}, "
            f"{len(self.failures)} failed, longest {longest:.1f} s{effect} {errors or ''}"
        ).rstrip()


class Traffic:
    """The clients' pod."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.cluster.start_pod("traffic", "traffic.py", cluster.route()["status"]["url"])
        self.goes_on()

    def stop(self) -> None:
        self.cluster.kubectl("delete", "pod", "traffic", "--ignore-not-found")

    def asked(self) -> list[Asked]:
        """Return every request that has ended, in the order of their ends."""
        lines = self.cluster.kubectl("logs", "traffic").splitlines()
        return [_parse(json.loads(line)) for line in lines]

    def goes_on(self, since: float | None = None) -> None:
        """Wait until every client has had an answer to a request that began after a moment, by default now."""
        moment = time.time() if since is None else since

        def each() -> bool:
            fresh = [a for a in self.asked() if a.began >= moment and not a.error]
            return len({(a.kind, a.stream) for a in fresh}) == CLIENTS

        self.cluster.until("every client is answered", each, every=1)

    def until_answered(
        self, phase: Phase, how: Callable[[Asked], bool], *, since: float | None = None
    ) -> None:
        """Wait for an answer that shows the change; without `since`, note when its request began."""
        earliest = phase.began if since is None else since

        def shown() -> Asked | None:
            return next((a for a in self.asked() if a.began >= earliest and not a.error and how(a)), None)

        found = self.cluster.until(f"{phase.name} bites", shown, every=1)
        if since is None:
            phase.took_effect = found.began

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        """Mark a phase: it ends when every client has been answered again after the block."""
        phase = Phase(name, time.time())
        yield phase
        self.goes_on()
        phase.ended = time.time()
        phase.asked = [a for a in self.asked() if a.ended >= phase.began and a.began <= phase.ended]
        note(phase.told())

    def kill_process(self, pod: str, title: str) -> None:
        """Kill -9 one process of a Ray pod by the beginning of its title."""
        told = self.cluster.kubectl(
            "exec", pod, "-c", "ray-head", "--", "bash", "-lc", f"python -c '{_KILL_ONE}' '{title}'"
        )
        assert "killed" in told, f"no process {title} in {pod}"

    def records(self, since: float) -> list[dict[str, Any]]:
        """Return the keeper's records of requests since a moment, at most 1000."""
        gateway = "http://support-gateway-serve-svc:8000"
        secret = self.cluster.json("get", "secret", "support-internal")
        token = base64.b64decode(secret["data"]["token"]).decode()
        url = f"{gateway}/keeper/records?limit=1000&since={since}"
        told = self.cluster.kubectl("exec", "traffic", "--", "python", "-c", _READ_RECORDS, url, token)
        return list(json.loads(told)["records"])


@contextmanager
def burst_of(cluster: Cluster, kind: str, clients: int, name: str) -> Iterator[Phase]:
    """Let so many clients ask for one path while the block lasts; afterwards the phase has what became of it."""
    pod = f"burst-{kind}"
    cluster.start_pod(pod, "traffic.py", cluster.route()["status"]["url"], kind, str(clients))
    phase = Phase(name, time.time())
    try:
        yield phase
        cluster.kubectl("exec", pod, "--", "touch", "/tmp/stop")
        cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=120s")
        phase.ended = time.time()
        phase.asked = [_parse(json.loads(line)) for line in cluster.kubectl("logs", pod).splitlines()]
        note(phase.told())
    finally:
        cluster.kubectl("delete", "pod", pod, "--ignore-not-found")


def _parse(line: dict[str, Any]) -> Asked:
    return Asked(
        kind=line["kind"],
        stream=line["stream"],
        began=line["began"],
        ended=line["ended"],
        error=line["error"],
        path=line.get("path"),
        gate=line.get("gate"),
        request_id=line.get("request-id"),
        cost_usd=line.get("cost-usd"),
    )


def note(line: str) -> None:
    """Write a figure beside those of the phases."""
    FIGURES.parent.mkdir(exist_ok=True)
    with FIGURES.open("a") as file:
        file.write(line + "\n")
