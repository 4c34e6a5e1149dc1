"""The operator as a process of its own, with the rights of its account and no more."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from hybridroute_render.kubernetes.operator_access import (
    render_cluster_rules,
    render_lease_rules,
    render_namespace_rules,
)
from support.api_server import OPERATOR_USER, ApiServer, free_ports

__all__ = ["OperatorProcess", "bind_operator_rights"]

_START_SECONDS = 120.0
"""Two seconds on an idle machine; imports wait for their turn on a busy one."""


def bind_operator_rights(server: ApiServer) -> None:
    """Give the operator's user what its account has after a cluster-wide install."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    everywhere = [*render_namespace_rules(), *render_cluster_rules()]
    for kind, plural, rules in (
        ("ClusterRole", "clusterroles", everywhere),
        ("Role", "namespaces/default/roles", render_lease_rules()),
    ):
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": "operator"},
            "rules": rules,
        }
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": f"{kind}Binding",
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "operator"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": OPERATOR_USER}],
        }
        bindings = plural.removesuffix("s") + "bindings"
        for document, where in ((role, plural), (binding, bindings)):
            status, answer = server.apply(document, f"{rbac}/{where}/operator")
            assert status in (200, 201), answer["message"]


class OperatorProcess:
    """One replica. Its log is kept in a file, one JSON object a line."""

    def __init__(self, server: ApiServer, log: Path, *options: str, identity: str = "one") -> None:
        [self.port] = free_ports(1)
        self.log = log
        command = [
            sys.executable,
            "-m",
            "hybridroute_operator",
            f"--kubeconfig={server.operator_kubeconfig}",
            f"--probe-port={self.port}",
            *options,
        ]
        environment = {**os.environ, "HOSTNAME": identity, "KUBECONFIG": str(server.operator_kubeconfig)}
        with log.open("ab") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        self._wait_until_healthy()

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> int:
        """Ask it to end, as a pod's deletion does; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait(timeout=30)

    def metric(self, name: str) -> float:
        """Return the sum over the labels of one of its metrics."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", self._get("/metrics"), re.MULTILINE)
        return sum(float(value) for value in found)

    def writes(self) -> float:
        """Return how many calls it made that change something, renewals of the Lease apart."""
        pattern = r'^hybridroute_operator_api_calls_total\{.*verb="(?:POST|PATCH|PUT|DELETE)"\} (\S+)$'
        return sum(float(value) for value in re.findall(pattern, self._get("/metrics"), re.MULTILINE))

    def wait_until_leading(self) -> None:
        """Wait until it holds the Lease, or leads without one."""
        deadline = time.monotonic() + _START_SECONDS
        while self.metric("hybridroute_operator_leading") != 1:
            if time.monotonic() > deadline:
                raise AssertionError(self.log.read_text()[-3000:])
            time.sleep(0.1)

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._get("/readyz")
            except (urllib.error.URLError, ConnectionError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(self.log.read_text()[-3000:]) from None
                time.sleep(0.1)
            else:
                return
