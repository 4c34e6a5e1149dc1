"""A kind cluster as the tests drive it: kubectl, our images and charts, the tests' pods, and what went wrong."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from pytest_kind import KindCluster

__all__ = ["OF_THE_TESTS", "ROOT", "VERSION", "Cluster", "Provider"]

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PODS = ROOT / "tests" / "kind" / "pods"
OF_THE_TESTS = {"app.kubernetes.io/part-of": "tests"}
"""Labels of what the tests put beside a route, which stays when the route goes."""
PATIENCE_SECONDS = 600.0
"""For anything that a cluster brings about on a machine that may be busy; nothing that works needs it."""


class Cluster:
    """What the tests ask of the cluster."""

    def __init__(self, kind: KindCluster) -> None:
        self.kind = kind
        self.environ = {**os.environ, "KUBECONFIG": str(kind.kubeconfig_path), "KIND_CLUSTER": kind.name}

    def run(self, *command: str, stdin: str | None = None) -> str:
        """Return what a program prints; its complaint is in the error."""
        done = subprocess.run(
            command, env=self.environ, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}\n{done.stdout[-2000:]}"
        return done.stdout

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Return what kubectl prints; asks again where the API server did not answer at all."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return self.run(str(self.kind.kubectl_path), *arguments, stdin=stdin)
            except AssertionError as error:
                away = any(words in str(error) for words in _API_SERVER_AWAY)
                if not away or time.monotonic() > deadline:
                    raise
            time.sleep(1)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.kubectl(*arguments, "-o", "json"))

    def apply(self, *documents: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))

    def until(
        self, what: str, holds: Callable[[], Any], *, seconds: float = PATIENCE_SECONDS, every: float = 0.5
    ) -> Any:
        """Ask until something holds, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            found = holds()
            if found:
                return found
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
            time.sleep(every)

    # HybridRoutes.

    def route(self, name: str = "support") -> dict[str, Any]:
        found: dict[str, Any] = self.json("get", "hybridroute", name)
        return found

    def patch(self, spec: dict[str, Any], name: str = "support") -> None:
        self.kubectl("patch", "hybridroute", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def conditions(self, name: str = "support") -> dict[str, dict[str, Any]]:
        return {item["type"]: item for item in self.route(name).get("status", {}).get("conditions", [])}

    def wait_for_condition(self, condition: str, name: str = "support") -> None:
        self.kubectl(
            "wait",
            f"--for=condition={condition}",
            f"hybridroute/{name}",
            f"--timeout={PATIENCE_SECONDS:.0f}s",
        )

    def wait_until_whole(self, name: str = "support") -> None:
        """Wait until the newest spec is served by both paths."""

        def whole() -> bool:
            route = self.route(name)
            conditions = {c["type"]: c["status"] for c in route.get("status", {}).get("conditions", [])}
            newest = route.get("status", {}).get("observedGeneration") == route["metadata"]["generation"]
            good = [
                conditions.get(kind) == "True" for kind in ("Ready", "SLMReady", "LLMReady", "RouterReady")
            ]
            return newest and all(good) and conditions.get("Degraded") == "False"

        self.until(f"HybridRoute {name} is whole", whole)

    def pods(self, **labels: str) -> list[dict[str, Any]]:
        """Return the pods with these labels of the product, by their last words, that are not on their way out."""
        selector = ",".join(f"{_LABELS[key]}={value}" for key, value in labels.items())
        items = self.json("get", "pods", "-l", selector)["items"]
        return [pod for pod in items if "deletionTimestamp" not in pod["metadata"]]

    # Pods of the tests.

    def start_pod(self, name: str, script: str, *arguments: str) -> None:
        """Start a script of `tests/kind/pods` as a pod in the operator's image."""
        config = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": OF_THE_TESTS},
            "data": {script: (PODS / script).read_text()},
        }
        container = {
            "name": "main",
            "image": f"hybridroute/operator:{VERSION}",
            "command": ["python", f"/pods/{script}", *arguments],
            "ports": [{"containerPort": 8000}],
            "volumeMounts": [{"name": "pods", "mountPath": "/pods"}],
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": OF_THE_TESTS | {"app": name}},
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 1,
                "automountServiceAccountToken": False,
                "securityContext": {
                    "runAsNonRoot": True,
                    "runAsUser": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [container],
                "volumes": [{"name": "pods", "configMap": {"name": name}}],
            },
        }
        self.apply(config, pod)
        self.kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE_SECONDS:.0f}s")

    @contextmanager
    def forward(self, target: str, port: int, namespace: str = "default") -> Iterator[str]:
        """Forward a port of a service or pod; yield the base address on this machine.

        Not pytest-kind's own, which gives kubectl one second to start.
        """
        command = [str(self.kind.kubectl_path), "port-forward", "-n", namespace, target, f":{port}"]
        with subprocess.Popen(command, env=self.environ, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = re.match(r"Forwarding from (127\.0\.0\.1:\d+) ", line)
                assert found, f"kubectl port-forward {target}: {line!r}"
                yield f"http://{found[1]}"
            finally:
                process.terminate()

    @contextmanager
    def keep_forwarding(self, target: str, port: int, namespace: str = "default") -> Iterator[str]:
        """Forward for as long as the block lasts: kubectl ends when a connection is refused, and is started again."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            local = free.getsockname()[1]
        loop = f'while :; do "$0" port-forward -n {namespace} {target} {local}:{port}; sleep 1; done'
        with subprocess.Popen(
            ["bash", "-c", loop, str(self.kind.kubectl_path)],
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                yield f"http://127.0.0.1:{local}"
            finally:
                os.killpg(process.pid, signal.SIGTERM)

    def describe_all(self) -> str:
        """Return what a person would look at first after a failure. Never raises."""
        parts = [
            ("get", "hybridroutes,rayservices,rayclusters,pods,services", "-A", "-o", "wide"),
            ("get", "events", "-A", "--sort-by=.lastTimestamp"),
            ("get", "hybridroutes", "-A", "-o", "yaml"),
            ("describe", "nodes"),
            ("logs", "-n", "hybridroute-system", "-l", "app.kubernetes.io/component=operator", "--tail=200"),
        ]
        return "\n".join(f"--- kubectl {' '.join(part)}\n{self._try(*part)}" for part in parts)

    def gather(self, folder: Path) -> None:
        """Write objects, events and every pod's log into a folder. Never raises."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "overview.txt").write_text(self.describe_all())
        objects = self._try(
            "get", "all,configmaps,networkpolicies,rayservices,rayclusters", "-A", "-o", "yaml"
        )
        (folder / "objects.yaml").write_text(objects)
        for line in self._try("get", "pods", "-A", "--no-headers").splitlines():
            namespace, pod, *_ = [*line.split(), "", ""]
            log = self._try("logs", "-n", namespace, pod, "--all-containers", "--prefix")
            (folder / f"{namespace}_{pod}.log").write_text(log)

    def _try(self, *arguments: str) -> str:
        command = [str(self.kind.kubectl_path), *arguments]
        try:
            done = subprocess.run(
                command, env=self.environ, capture_output=True, text=True, check=False, timeout=60
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return done.stdout + done.stderr


class Provider:
    """Looks into the account that the provider's pod keeps."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def seen(self) -> dict[str, int]:
        """Return attempts by the Authorization header that they carried."""
        where = "/api/v1/namespaces/default/services/provider:8000/proxy/seen"
        found: dict[str, int] = json.loads(self._cluster.kubectl("get", "--raw", where))
        return found

    def attempts(self) -> int:
        return sum(self.seen().values())


_API_SERVER_AWAY = (
    "connection reset by peer",
    "TLS handshake timeout",
    "connection refused",
    "EOF",
    "was refused",
)
"""What kubectl says when nobody took its request, or nobody answered it; on a busy machine an API server restarts."""

_LABELS = {
    "route": "hybridroute.dev/route",
    "part": "hybridroute.dev/part",
    "node": "ray.io/node-type",
    "app": "app",
}
