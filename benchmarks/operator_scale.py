"""How the operator grows with the number of routes: seconds, calls to the API server, memory and CPU.

    PYTHONPATH=tests .venv/bin/python benchmarks/operator_scale.py --routes 50,100,200 \
        --output benchmarks/results/operator_scale.md

For each number a new API server (kube-apiserver, etcd and kube-controller-manager on PATH, KubeRay's definitions from
KUBERAY_MANIFEST) and a new operator under its account's rights; KubeRay's states are written by this script. Ten routes
to a namespace. Seconds are of this machine and of all three processes together; CPU is the operator's own, in
processor seconds, so that a busy machine does not show in it.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from support.api_server import ApiServer, run_api_server
from support.crd_cases import serve_definition
from support.kuberay import report_applications, serve_kuberay
from support.operator_process import OperatorProcess, bind_operator_rights
from support.routes import route_document

GROUP = "/apis/hybridroute.dev/v1alpha1"
PER_NAMESPACE = 10
WRITERS = 8
REST_SECONDS = 60.0
LIMIT_SECONDS = 3600.0
GATEWAY_UP = {"router": "RUNNING", "llm-proxy": "RUNNING", "keeper": "RUNNING"}
CALLS = "hybridroute_operator_api_calls_total"


@dataclass(frozen=True, slots=True)
class Row:
    routes: int
    accepted_seconds: float
    ready_seconds: float
    accepted_calls: float
    """Calls to the API server a route, from its creation to Accepted."""
    making_cpu_seconds: float
    """The operator's processor seconds a route, from its creation to Ready."""
    rest_calls: float
    """Calls a route and minute at rest."""
    rest_writes: float
    """Writes of all routes together in that minute, renewals of the Lease apart."""
    rest_cpu_percent: float
    rss_mib: float


def place_of(number: int) -> tuple[str, str]:
    return f"scale-{number // PER_NAMESPACE}", f"route-{number}"


def apply_route(cluster: ApiServer, number: int) -> None:
    namespace, name = place_of(number)
    path = f"{GROUP}/namespaces/{namespace}/hybridroutes/{name}"
    status, answer = cluster.apply(route_document({"metadata": {"name": name}}), path)
    assert status == 201, answer["message"]


def serve_route(cluster: ApiServer, number: int) -> None:
    namespace, name = place_of(number)
    report_applications(cluster, namespace, f"{name}-gateway", GATEWAY_UP)
    report_applications(cluster, namespace, f"{name}-slm", {"slm": "RUNNING"})


def count_true(cluster: ApiServer, kind: str) -> int:
    _, answer = cluster.request("GET", f"{GROUP}/hybridroutes")
    conditions = [c for item in answer["items"] for c in (item.get("status") or {}).get("conditions") or ()]
    return sum(c["type"] == kind and c["status"] == "True" for c in conditions)


def wait_until(holds: Callable[[], bool], began: float) -> float:
    while not holds():
        if time.monotonic() - began > LIMIT_SECONDS:
            raise SystemExit("given up: the operator does not come to an end")
        time.sleep(1.0)
    return time.monotonic() - began


def wait_until_quiet(operator: OperatorProcess) -> None:
    """Wait until ten seconds pass without a write: the events of the last conditions are out."""
    while True:
        writes = operator.writes()
        time.sleep(10)
        if operator.writes() == writes:
            return


def measure(cluster: ApiServer, directory: Path, routes: int) -> Row:
    operator = OperatorProcess(cluster, directory / f"operator-{routes}.log")
    try:
        operator.wait_until_leading()
        process = psutil.Process(operator.pid)
        for number in range(0, routes, PER_NAMESPACE):
            namespace = place_of(number)[0]
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
            cluster.apply(body, f"/api/v1/namespaces/{namespace}")
        calls, cpu = operator.metric(CALLS), cpu_seconds(process)
        began = time.monotonic()
        with ThreadPoolExecutor(WRITERS) as pool:
            list(pool.map(lambda number: apply_route(cluster, number), range(routes)))
            accepted = wait_until(lambda: count_true(cluster, "Accepted") == routes, began)
            accepted_calls = operator.metric(CALLS) - calls
            list(pool.map(lambda number: serve_route(cluster, number), range(routes)))
        ready = wait_until(lambda: count_true(cluster, "Ready") == routes, began)
        making = cpu_seconds(process) - cpu
        wait_until_quiet(operator)
        calls, writes, cpu, rested = (
            operator.metric(CALLS),
            operator.writes(),
            cpu_seconds(process),
            time.monotonic(),
        )
        time.sleep(REST_SECONDS)
        seconds = time.monotonic() - rested
        return Row(
            routes=routes,
            accepted_seconds=accepted,
            ready_seconds=ready,
            accepted_calls=accepted_calls / routes,
            making_cpu_seconds=making / routes,
            rest_calls=(operator.metric(CALLS) - calls) / routes * 60 / seconds,
            rest_writes=operator.writes() - writes,
            rest_cpu_percent=100 * (cpu_seconds(process) - cpu) / seconds,
            rss_mib=process.memory_info().rss / 2**20,
        )
    finally:
        operator.stop()


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def render(rows: list[Row], routes: str) -> str:
    lines = [
        "# The operator and many routes",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), load average"
        f" {os.getloadavg()[1]:.0f} over five minutes.",
        f"`PYTHONPATH=tests .venv/bin/python benchmarks/operator_scale.py --routes {routes}`",
        "",
        "| routes | s to all Accepted | s to all Ready | calls a route to Accepted | operator CPU ms a route to Ready "
        "| calls a route and minute at rest | writes in that minute | CPU at rest | memory |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.routes} | {row.accepted_seconds:.0f} | {row.ready_seconds:.0f} | {row.accepted_calls:.0f} "
        f"| {1000 * row.making_cpu_seconds:.0f} | {row.rest_calls:.0f} | {row.rest_writes:.0f} "
        f"| {row.rest_cpu_percent:.0f} % | {row.rss_mib:.0f} MiB |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", default="50,100,200")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    rows: list[Any] = []
    for routes in map(int, given.routes.split(",")):
        with tempfile.TemporaryDirectory() as made:
            directory = Path(made)
            with run_api_server(directory, garbage_collector=True) as cluster:
                serve_definition(cluster)
                serve_kuberay(cluster)
                bind_operator_rights(cluster)
                rows.append(measure(cluster, directory, routes))
        page = render(rows, given.routes)
        print(page)
        if given.output is not None:
            given.output.write_text(page)


if __name__ == "__main__":
    main()
