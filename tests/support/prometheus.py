"""A real Prometheus on this machine, for what a scrape and a query make of our metrics. Knows nothing of clusters."""

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["PROMETHEUS_MISSING", "Prometheus", "ScrapeJob", "run_prometheus"]

PROMETHEUS_MISSING = shutil.which("prometheus") is None
SCRAPE_SECONDS = 5
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ScrapeJob:
    """One target."""

    name: str
    url: str
    """Scheme, host and port."""
    path: str
    token: str = ""
    """Sent as the bearer token; empty sends none."""

    def render(self) -> dict[str, Any]:
        """Return it as an entry of `scrape_configs`."""
        authorization = {"authorization": {"credentials": self.token}} if self.token else {}
        targets = [{"targets": [self.url.removeprefix("http://")]}]
        return {"job_name": self.name, "metrics_path": self.path, "static_configs": targets} | authorization


class Prometheus:
    """Asks one that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=30) as answer:
            document = json.load(answer)
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], str]]:
        """Return labels and value of each series."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], series["value"][1]) for series in found]


@contextmanager
def run_prometheus(folder: Path, jobs: list[ScrapeJob], rules: dict[str, Any]) -> Iterator[Prometheus]:
    """Run one with these targets and rule groups while the block lasts."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
    interval = f"{SCRAPE_SECONDS}s"
    config = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [job.render() for job in jobs],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    log = folder / "prometheus.log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            _wait_until_ready(f"http://{address}/-/ready", process, log)
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
