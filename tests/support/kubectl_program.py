"""A kubectl for tests without a cluster: it answers `get` from a file, and forwards every Service to one port."""

import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["install_kubectl", "kubectl_calls"]

_PROGRAM = """\
#!{python}
import json, sys, time
calls, objects, port = {calls!r}, {objects!r}, {port}
words = [word for word in sys.argv[1:] if not word.startswith("-")]
flags = dict(word.lstrip("-").split("=", 1) for word in sys.argv[1:] if word.startswith("-") and "=" in word)
with open(calls, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
known = json.load(open(objects))
if words[0] == "get":
    if words[1] not in known:
        sys.exit(f'error: the server doesn\\'t have a resource type "{{words[1]}}"')
    found = known[words[1]]
    if "selector" in flags:
        key, value = flags["selector"].split("=")
        found = [item for item in found if item["metadata"].get("labels", {{}}).get(key) == value]
    if len(words) == 2:
        print(json.dumps({{"kind": "List", "items": found}}))
    for item in found:
        if words[2:] == [item["metadata"]["name"]]:
            print(json.dumps(item))
elif port is None:
    sys.exit("error: unable to forward port because pod is not running. Current status=Pending")
else:
    print(f"Forwarding from 127.0.0.1:{{port}} -> 8000", flush=True)
    time.sleep(600)
"""


def install_kubectl(directory: Path, objects: dict[str, list[dict[str, Any]]], port: int | None) -> Path:
    """Write the program and what it knows, by resource; return the folder to put on PATH.

    `port`: where Services are forwarded to; None means that no pod runs behind them.
    """
    bin_dir = directory / "bin"
    bin_dir.mkdir(exist_ok=True)
    (directory / "objects.json").write_text(json.dumps(objects))
    program = bin_dir / "kubectl"
    places = {"calls": str(directory / "calls.jsonl"), "objects": str(directory / "objects.json")}
    program.write_text(_PROGRAM.format(python=sys.executable, port=port, **places))
    program.chmod(0o755)
    return bin_dir


def kubectl_calls(directory: Path) -> list[list[str]]:
    """Return the arguments of each call, in order."""
    return [json.loads(line) for line in (directory / "calls.jsonl").read_text().splitlines()]
