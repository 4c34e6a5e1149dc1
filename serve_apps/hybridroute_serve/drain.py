"""`python -m hybridroute_serve.drain APP --seconds N`: what an SLM's pod does before it stops.

Takes the application's replicas out of this node's HAProxy, so that the router sees none and the LLM carries, and waits
until no request is left on them. Without it a deleted pod cuts the answers that it is giving. It talks to HAProxy's
admin socket, which Ray Serve makes for itself; where there is none, nothing is served and nothing is waited for.
"""

import argparse
import csv
import io
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

__all__ = ["SETTLE_SECONDS", "Ask", "drain", "parse_sessions"]

Ask = Callable[[str], str]
"""Sends one command to HAProxy and returns its answer; raises OSError when it is gone."""

SETTLE_SECONDS: Final = 3.0
"""Routers read the number of ready replicas twice a second, and may miss a read or two."""
_POLL_SECONDS: Final = 0.2
_SOCKETS: Final = "haproxy-serve/*/admin.sock"


def parse_sessions(table: str, backend: str) -> dict[str, int]:
    """Return the requests that each server of a backend is serving, from `show stat`. Pure."""
    rows = csv.DictReader(io.StringIO(table.removeprefix("# ")))
    return {
        row["svname"]: int(row["scur"] or 0)
        for row in rows
        if row["pxname"] == backend and row["svname"] not in ("BACKEND", "FRONTEND")
    }


def drain(
    ask: Ask,
    app: str,
    *,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Let nothing new in and wait, at most so long; return whether every request has ended."""
    backend = f"http-{app}"
    began = clock()
    for server in parse_sessions(ask("show stat"), backend):
        ask(f"set server {backend}/{server} state drain")
    while clock() - began < seconds:
        sleep(_POLL_SECONDS)
        idle = not any(parse_sessions(ask("show stat"), backend).values())
        if idle and clock() - began >= SETTLE_SECONDS:
            return True
    return False


def _ask_socket(path: Path) -> Ask:
    def ask(command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5.0)
            connection.connect(str(path))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    return ask


def main(arguments: list[str], root: Path = Path("/tmp")) -> int:  # noqa: S108 - Ray's own choice
    """Drain every HAProxy of this node; 0 when all requests have ended, or nothing is served here."""
    parser = argparse.ArgumentParser("hybridroute-drain", description=__doc__)
    parser.add_argument("app")
    parser.add_argument("--seconds", type=float, required=True, help="How long requests may take to end.")
    given = parser.parse_args(arguments)
    drained = True
    for path in root.glob(_SOCKETS):
        try:
            drained = drain(_ask_socket(path), given.app, seconds=given.seconds) and drained
        except OSError as error:
            sys.stderr.write(f"HAProxy at {path} did not answer: {error}\n")
    return 0 if drained else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
