"""Starts, updates and ends the instance of a route on this machine.

`up` is level-based: it writes what is wanted, and starts a supervisor only if none is there. What a crashed instance
left behind is found by its mark and ended first.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_cli.output import CommandError
from hybridroute_cli.processes import (
    RUN_ID_VARIABLE,
    end_processes,
    find_processes,
    is_port_free,
    pick_free_ports,
    remove_ray_directory,
)
from hybridroute_cli.rundir import Phase, Run, RunDirectory
from hybridroute_cli.upstreams import UpstreamSources
from hybridroute_render.live import render_live_policy
from hybridroute_render.placement import Placement, ServePorts
from hybridroute_render.serve_config import (
    STAND_IN_PREFIX,
    render_gateway_applications,
    render_slm_application,
    render_stand_in_application,
)
from hybridroute_render.serve_environment import render_serve_environment

__all__ = [
    "OPEN_PORTS_WARNING",
    "Change",
    "end_instance",
    "is_alive",
    "stand_in_url",
    "start_instance",
    "update_instance",
]

HOST = "127.0.0.1"
OPEN_PORTS_WARNING = (
    "the route listens on 127.0.0.1; Ray's own ports and HAProxy's exporter (:{metrics}) and statistics (:{stats}) "
    "listen on all interfaces and cannot be told not to: keep this machine behind a firewall"
)

_STAND_IN_TOKENS_PER_SECOND = 200.0
_STOP_GRACE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Change:
    """What an update changed."""

    policy: bool
    deployment: bool


def stand_in_url(http_port: int) -> str:
    """Base URL of the local stand-in of an instance."""
    return f"http://{HOST}:{http_port}{STAND_IN_PREFIX}/v1"


def is_alive(run: Run) -> bool:
    """True while the instance's supervisor runs."""
    return any(process.pid == run.supervisor_pid for process in find_processes(run.run_id))


def start_instance(
    directory: RunDirectory,
    route: HybridRoute,
    sources: UpstreamSources,
    *,
    port: int,
    environ: Mapping[str, str],
) -> Run:
    """Write what is wanted and start the supervisor. Raises `CommandError` when the port is taken."""
    if not is_port_free(HOST, port):
        raise CommandError(f"port {port} on {HOST} is in use; choose another with --port")
    metrics, stats, fallback = pick_free_ports((9101, 8404, 8500))
    ports = ServePorts(http=port, haproxy_metrics=metrics, haproxy_stats=stats, fallback_proxy=fallback)
    directory.prepare()
    write_desired(directory, route, sources, ports)
    run_id = uuid.uuid4().hex
    ray_dir = f"/tmp/hr-{run_id[:8]}"  # noqa: S108 - Ray's sockets need a short path; the directory is made by Ray
    environment = {
        **environ,
        **render_serve_environment(ports, cores=os.cpu_count() or 1),
        **_haproxy_files(Path(ray_dir) / "haproxy"),
        RUN_ID_VARIABLE: run_id,
        "PYTHONUNBUFFERED": "1",
    }
    # Sockets in it take commands from whoever can reach them.
    Path(ray_dir).mkdir(mode=0o700)
    # The keys stay with the llm-proxy, which reads them from files; replicas do not inherit them.
    for upstream in route.spec.llm.upstreams:
        if upstream.credentials and upstream.credentials.env:
            environment.pop(upstream.credentials.env, None)
    hub = route.spec.slm.model.credentials
    if hub is not None and hub.env is not None:
        environment.pop(hub.env, None)
    with directory.log_file.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module with our own arguments
            [
                sys.executable,
                "-m",
                "hybridroute_cli.supervisor",
                str(directory.root.parent),
                route.metadata.name,
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            cwd="/",
        )
    run = Run(
        run_id=run_id,
        route=route.metadata.name,
        url=f"http://{HOST}:{port}",
        ports=ports,
        supervisor_pid=process.pid,
        started_at=time.time(),
        ray_dir=ray_dir,
        stand_in=sources.stand_in,
    )
    directory.write_phase(Phase("starting"))
    directory.write_run(run)
    return run


def _haproxy_files(directory: Path) -> dict[str, str]:
    """Keep what HAProxy writes with the run, and not in a folder that all runs share and none cleans up."""
    return {
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / "admin.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "metrics.sock"),
    }


def update_instance(
    directory: RunDirectory, run: Run, route: HybridRoute, sources: UpstreamSources
) -> Change:
    """Write what is wanted for a running instance; keeper and supervisor follow."""
    return write_desired(directory, route, sources, run.ports)


def write_desired(
    directory: RunDirectory, route: HybridRoute, sources: UpstreamSources, ports: ServePorts
) -> Change:
    """Write keys, live policy and Serve config; untouched where nothing changed."""
    for path, key in sources.secrets.items():
        directory.write_secret(path, key)
    gateway_url = f"http://{HOST}:{ports.http}"
    exporter = f"http://{HOST}:{ports.haproxy_metrics}/metrics"
    placement = Placement(
        gateway_url=gateway_url,
        slm_ingress_url=gateway_url,
        gateway_haproxy_metrics_url=exporter,
        slm_haproxy_metrics_url=exporter,
        token_file=str(directory.token_file),
        metrics_token_file=str(directory.metrics_token_file),
        state_dir=str(directory.state_dir),
        journal_dir=str(directory.journal_dir),
        live_file=str(directory.live_file),
        hub_token_file=str(directory.hub_token_file),
    )
    applications = [*render_gateway_applications(route, placement), render_slm_application(route, placement)]
    if sources.stand_in:
        applications.append(render_stand_in_application(tokens_per_second=_STAND_IN_TOKENS_PER_SECOND))
    config: dict[str, Any] = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": HOST, "port": ports.http},
        "applications": applications,
    }
    policy = render_live_policy(route, sources.resolved)
    return Change(
        policy=directory.write_json(directory.live_file, policy.model_dump(mode="json")),
        deployment=directory.write_json(directory.serve_file, config),
    )


def end_instance(directory: RunDirectory, run: Run, *, say: Callable[[str], None]) -> None:
    """End every process of the instance and remove what described it; records stay."""
    count = len(find_processes(run.run_id))
    say(f"stopping {count} processes of route {run.route}")
    end_processes(run.run_id, supervisor_pid=run.supervisor_pid, grace_seconds=_STOP_GRACE_SECONDS)
    remove_ray_directory(Path(run.ray_dir))
    directory.forget_run()
