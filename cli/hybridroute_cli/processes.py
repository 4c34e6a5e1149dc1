"""Finds and ends the processes of one run, and only those.

Every process that a run starts inherits `HYBRIDROUTE_RUN_ID`: the supervisor, Ray's daemons, replicas, HAProxy.
Names and ports are shared with other programs on the machine; this mark is not.
"""

import contextlib
import shutil
import socket
import time
from pathlib import Path

import psutil

__all__ = [
    "RUN_ID_VARIABLE",
    "end_processes",
    "find_processes",
    "is_port_free",
    "pick_free_ports",
    "remove_ray_directory",
]

RUN_ID_VARIABLE = "HYBRIDROUTE_RUN_ID"


def find_processes(run_id: str) -> list[psutil.Process]:
    """Live processes of the run, this one excluded."""
    own = psutil.Process().pid
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            if process.pid != own and process.environ().get(RUN_ID_VARIABLE) == run_id:
                found.append(process)
    return found


def end_processes(run_id: str, *, supervisor_pid: int, grace_seconds: float) -> int:
    """Ask the supervisor to stop, then end what is left. Returns how many had to be killed."""
    supervisor = next((p for p in find_processes(run_id) if p.pid == supervisor_pid), None)
    if supervisor is not None:
        with contextlib.suppress(psutil.NoSuchProcess):
            supervisor.terminate()
        psutil.wait_procs([supervisor], timeout=grace_seconds)
    # Ray's daemons outlive their driver by a moment; give them that before the axe.
    deadline = time.monotonic() + 3.0
    while (left := find_processes(run_id)) and time.monotonic() < deadline and supervisor is not None:
        time.sleep(0.1)
    killed = 0
    while left := find_processes(run_id):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                killed += 1
        psutil.wait_procs(left, timeout=5.0)
    return killed


def is_port_free(host: str, port: int) -> bool:
    """True when a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def pick_free_ports(preferred: tuple[int, ...]) -> tuple[int, ...]:
    """Each preferred port if it is free on all interfaces, else one the kernel picks."""
    taken: set[int] = set()
    chosen = []
    for port in preferred:
        if port in taken or not is_port_free("", port):
            with socket.socket() as probe:
                probe.bind(("", 0))
                port = probe.getsockname()[1]  # noqa: PLW2901 - the preferred port is replaced
        taken.add(port)
        chosen.append(port)
    return tuple(chosen)


def remove_ray_directory(path: Path) -> None:
    """Remove the run's Ray session files."""
    shutil.rmtree(path, ignore_errors=True)
