"""Helm as a program: charts rendered to objects, with values as a person gives them."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

__all__ = [
    "CHART",
    "CRD_CHART",
    "HELM_MISSING",
    "KUBE_VERSION",
    "HelmRefusedError",
    "only",
    "run_helm",
    "template",
]

CHARTS = Path(__file__).parents[2] / "charts"
CHART = CHARTS / "hybridroute"
CRD_CHART = CHARTS / "hybridroute-crds"
KUBE_VERSION = ("--kube-version", "1.34.0")
"""A helm that is built from its module believes in an old default."""
HELM_MISSING = shutil.which("helm") is None


class HelmRefusedError(Exception):
    """Helm ended with an error; its text is what a person would read."""


def run_helm(*arguments: str) -> str:
    """Return what helm prints; raises `HelmRefusedError` with its complaint."""
    done = subprocess.run(["helm", *arguments], capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        raise HelmRefusedError(done.stderr + done.stdout)
    return done.stdout


def template(chart: Path, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the objects of a release called `shop` in the namespace `system`."""
    given = [f"{key}={json.dumps(value)}" for key, value in (values or {}).items()]
    options = [option for value in given for option in ("--set-json", value)]
    text = run_helm("template", "shop", str(chart), "--namespace", "system", *KUBE_VERSION, *options)
    return [document for document in yaml.safe_load_all(text) if document]


def only(objects: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """Return the one object of a kind, or the one of that name."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    assert len(found) == 1, [(o["kind"], o["metadata"]["name"]) for o in objects]
    return found[0]
