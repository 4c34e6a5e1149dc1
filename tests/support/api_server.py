"""A Kubernetes API server without nodes: etcd and kube-apiserver as plain processes on free ports."""

import json
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["OPERATOR_USER", "ApiServer", "free_ports", "missing_programs", "run_api_server"]

_PROGRAMS = ("etcd", "kube-apiserver", "kubectl", "openssl")
_TOKEN = "test-admin"
_OPERATOR_TOKEN = "test-operator"
OPERATOR_USER = "operator"
_START_SECONDS = 180.0
_ANSWER_SECONDS = 120.0
"""The definitions of KubeRay take a busy machine half a minute each."""
_OPEN = ssl._create_unverified_context()  # the server makes its own certificate


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running API server, and how to talk to it."""

    url: str
    kubeconfig: Path
    """Of a user who may do everything."""
    operator_kubeconfig: Path
    """Of the user `OPERATOR_USER`, who may do what the test binds to that name."""

    def request(self, method: str, path: str, body: Any = None, *, kind: str = "application/json") -> Any:
        """Return status and document of one call. YAML may be sent as text, for server-side apply."""
        data = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {_TOKEN}", "Content-Type": kind}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, context=_OPEN, timeout=_ANSWER_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode()
            return error.code, json.loads(text) if text.startswith("{") else text

    def wait_for(self, path: str, holds: Callable[[int, Any], bool], *, seconds: float = 120.0) -> Any:
        """Ask again and again until status and document satisfy `holds`; return the document."""
        deadline = time.monotonic() + seconds
        while True:
            status, document = self.request("GET", path)
            if holds(status, document):
                return document
            if time.monotonic() > deadline:
                raise AssertionError(f"{path} after {seconds:.0f} s: {status} {str(document)[:2000]}")
            time.sleep(0.05)

    def kubectl(self, *arguments: str) -> str:
        """Return what kubectl prints."""
        command = ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout

    def apply(self, document: dict[str, Any], path: str, *, manager: str = "tests") -> Any:
        """Create or change an object by server-side apply; return status and document."""
        query = f"?fieldManager={manager}&force=true"
        return self.request("PATCH", path + query, document, kind="application/apply-patch+yaml")


def missing_programs(*more: str) -> list[str]:
    """Return the programs that are not on PATH."""
    return [program for program in (*_PROGRAMS, *more) if shutil.which(program) is None]


@contextmanager
def run_api_server(directory: Path, *, garbage_collector: bool = False) -> Iterator[ApiServer]:
    """Start the processes and wait until the server answers; stop them at the end.

    With the garbage collector, objects go when their owner does, and namespaces when they are empty.
    """
    etcd_port, peer_port, port = free_ports(3)
    key, tokens = directory / "sa.key", directory / "tokens.csv"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens.write_text(
        f'{_TOKEN},admin,admin,"system:masters"\n{_OPERATOR_TOKEN},{OPERATOR_USER},{OPERATOR_USER}\n'
    )
    etcd = [
        "etcd",
        "--unsafe-no-fsync",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
        f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
        f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
    ]
    server = [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{etcd_port}",
        f"--secure-port={port}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={directory / 'certs'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={tokens}",
        "--disable-admission-plugins=ServiceAccount",
    ]
    with ExitStack() as stack:
        for command in (etcd, server):
            log = stack.enter_context((directory / f"{command[0]}.log").open("wb"))
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(_stop, process)
        running = ApiServer(
            f"https://127.0.0.1:{port}",
            _write_kubeconfig(directory / "kubeconfig", port, _TOKEN),
            _write_kubeconfig(directory / "operator-kubeconfig", port, _OPERATOR_TOKEN),
        )
        _wait_until_ready(running, process, directory / "kube-apiserver.log")
        if garbage_collector:
            collector = [
                "kube-controller-manager",
                f"--kubeconfig={running.kubeconfig}",
                "--controllers=garbage-collector-controller,namespace-controller",
                "--leader-elect=false",
                "--secure-port=0",
            ]
            log = stack.enter_context((directory / "kube-controller-manager.log").open("wb"))
            stack.callback(_stop, subprocess.Popen(collector, stdout=log, stderr=subprocess.STDOUT))
        yield running


def _wait_until_ready(server: ApiServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            status, _ = server.request("GET", "/api/v1/namespaces/default")
        except (OSError, ValueError):
            status = 0
        if status == 200:
            return
        time.sleep(0.2)
    raise RuntimeError("kube-apiserver did not become ready:\n" + log.read_text(errors="replace")[-3000:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _write_kubeconfig(path: Path, port: int, token: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "test",
                "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True},
            }
        ],
        "users": [{"name": "one", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "one"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(document))
    return path


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
