"""The process behind `hybridroute up`: it holds the local Ray and applies the desired Serve config.

Level-based like the operator: it watches `serve.json` and deploys what it says whenever it changes; the live
policy never passes through here. SIGTERM ends it and all that it started.
Run as `python -m hybridroute_cli.supervisor HOME ROUTE`.
"""

import json
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.schema import ServeDeploySchema

from hybridroute_cli.machine import refuse_missing_gpus
from hybridroute_cli.rundir import Phase, Run, RunDirectory

__all__ = ["supervise"]

_log = logging.getLogger(__name__)

_OBJECT_STORE_BYTES = 80 * 1024 * 1024
"""Ray's minimum: no object passes through the store, the applications talk over HTTP."""

_POLL_SECONDS = 0.3


def supervise(directory: RunDirectory, run: Run) -> int:
    """Start Ray and Serve, deploy, follow the desired config until SIGTERM. Returns the exit status."""
    stopping = _StopRequest()
    try:
        _start(directory, run)
        _follow(directory, stopping)
    except Exception as error:  # noqa: BLE001 - whatever it is, the person who waits in `up` must read it
        _log.exception("supervisor failed route=%s", run.route)
        directory.write_phase(Phase("failed", _first_line(error)))
        return 1
    else:
        directory.write_phase(Phase("stopping"))
        return 0
    finally:
        # Not serve.shutdown(): it waits for every stream up to the longest one. `down` has said that this ends now.
        ray.shutdown()


def _start(directory: RunDirectory, run: Run) -> None:
    directory.write_phase(Phase("starting", "starting Ray"))
    config = _read_desired(directory)
    ray.init(
        include_dashboard=False,
        num_cpus=_logical_cpus(config),
        object_store_memory=_OBJECT_STORE_BYTES,
        log_to_driver=False,
        logging_level=logging.WARNING,
        namespace="serve",
        _temp_dir=run.ray_dir,
        _node_ip_address="127.0.0.1",
    )
    refuse_missing_gpus(config, there=int(ray.cluster_resources().get("GPU", 0)))
    serve.start(proxy_location="HeadOnly", http_options=config["http_options"])


def _follow(directory: RunDirectory, stopping: "_StopRequest") -> None:
    applied: dict[str, Any] | None = None
    settled = False
    while not stopping.requested:
        desired = _read_desired(directory)
        if desired != applied:
            _deploy(desired)
            _log.info("deployed the Serve config applications=%d", len(desired["applications"]))
            applied, settled = desired, False
        if not settled:
            statuses = {name: app.status.value for name, app in serve.status().applications.items()}
            wanted = {app["name"] for app in desired["applications"]}
            failed = [name for name, status in statuses.items() if status in ("DEPLOY_FAILED", "UNHEALTHY")]
            settled = set(statuses) == wanted and set(statuses.values()) == {"RUNNING"}
            detail = _failure_detail(failed) if failed else ""
            directory.write_phase(Phase("serving" if settled else "deploying", detail, statuses))
        time.sleep(_POLL_SECONDS)


def _deploy(config: dict[str, Any]) -> None:
    # The command-line `serve deploy` goes through Ray's dashboard, which does not run here. This is the call the
    # dashboard makes: declarative, so that an unchanged application is left alone.
    from ray.serve.context import _get_global_client  # noqa: PLC0415

    _get_global_client().deploy_apps(ServeDeploySchema.model_validate(config))


def _failure_detail(names: list[str]) -> str:
    applications = serve.status().applications
    return "; ".join(
        f"{name}: {applications[name].message.strip()[-600:]}" for name in names if name in applications
    )


def _read_desired(directory: RunDirectory) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(directory.serve_file.read_text())
    return document


def _logical_cpus(config: dict[str, Any]) -> int:
    # Logical: enough for every replica at its maximum, twice over for a surge, so that nothing waits for a CPU that
    # only exists on paper. The real processors are shared by the kernel.
    total = 0.0
    for application in config["applications"]:
        for deployment in application["deployments"]:
            replicas = deployment.get("autoscaling_config", {}).get("max_replicas", 1)
            total += 2 * replicas * deployment["ray_actor_options"]["num_cpus"]
    return int(total) + 4


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


class _StopRequest:
    def __init__(self) -> None:
        self.requested = False
        signal.signal(signal.SIGTERM, self._request)
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _request(self, *_: object) -> None:
        self.requested = True


def main() -> None:
    """Entry point; the environment is prepared by `up`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    directory = RunDirectory(Path(sys.argv[1]), sys.argv[2])
    deadline = time.monotonic() + 5.0
    while (run := directory.read_run()) is None or run.supervisor_pid != os.getpid():
        if time.monotonic() > deadline:
            raise SystemExit("no run.json names this process; start it through `hybridroute up`")
        time.sleep(0.05)
    raise SystemExit(supervise(directory, run))


if __name__ == "__main__":
    main()
