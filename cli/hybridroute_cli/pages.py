"""Writes the files that are made from code: `python -m hybridroute_cli.pages docs crds charts`; `--check` compares.

Each folder's files are listed below; nobody edits them by hand.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Any, Final, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from hybridroute_api.crd import PLURAL, render_crd
from hybridroute_api.v1alpha1.resource import API_VERSION
from hybridroute_api.v1alpha1.spec import HybridRouteSpec
from hybridroute_render.kubernetes.operator_access import (
    render_cluster_rules,
    render_lease_rules,
    render_namespace_rules,
)
from hybridroute_serve.keeper.metrics_page import render_metrics_page

__all__ = ["FILES", "render_crd_file", "render_object_page", "render_rules_file"]

_HEADER = f"""# HybridRoute

`{API_VERSION}`, kind `HybridRoute`. Every field of `spec`, with its unit, range and default. Durations are written
`10s`, `5m`, `24h`; money is a decimal string of US dollars. Unknown fields are errors. `metadata.name` is a lower-case
name of at most 39 characters. An example: [`examples/hybridroute.yaml`](../examples/hybridroute.yaml);
`hybridroute validate FILE` checks one.

What is part of the live policy is in force within 10 s without a restart, by `hybridroute up -f FILE` again or, in a
cluster, by a change of the object. That is everything but each `scaling`, `topology`, `pods`, `records.claimName`,
which Secrets and authorities are mounted, and of `slm` whatever is not `capabilities` or `pricing`. `hybridroute up`
says when replicas follow, [What a route becomes](operator.md#what-a-route-becomes) what a cluster does. This page is
generated (`make docs`); edit the models in `operator/hybridroute_api/v1alpha1`.
"""


def render_object_page() -> str:
    """Return the reference of the object. Pure."""
    lines = [_HEADER, "| field | meaning |", "|---|---|"]
    lines += [f"| `{path}` | {meaning} |" for path, meaning in _describe(HybridRouteSpec, "spec")]
    return "\n".join(lines) + "\n"


def _describe(model: type[BaseModel], path: str) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        inner, is_list = _inner_model(field.annotation)
        here = f"{path}.{field.alias or name}" + ("[]" if is_list and inner else "")
        extra = field.json_schema_extra
        note = (
            " *Clusters only.*" if isinstance(extra, dict) and "x-hybridroute-cluster-only" in extra else ""
        )
        yield here, " ".join((field.description or "").split()) + note
        if inner is not None:
            yield from _describe(inner, here)


def _inner_model(annotation: Any) -> tuple[type[BaseModel] | None, bool]:
    """Return the model that a field holds, and whether it holds many."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, False
    arguments = [argument for argument in get_args(annotation) if argument is not type(None)]
    for argument in arguments:
        inner, _ = _inner_model(argument)
        if inner is not None:
            return inner, get_origin(annotation) not in (Union, UnionType)
    return None, False


def render_crd_file() -> str:
    """Return the CustomResourceDefinition as YAML. Pure."""
    header = "# Made from the models by `make crds`; edit operator/hybridroute_api/v1alpha1.\n"
    return header + yaml.safe_dump(render_crd(), sort_keys=False, width=110, allow_unicode=True)


def render_rules_file() -> str:
    """Return the rights of the operator's account as the chart reads them, by where they hold. Pure."""
    header = "# Made by `make crds`; edit operator/hybridroute_render/kubernetes/operator_access.py.\n"
    rules = {
        "namespace": render_namespace_rules(),
        "cluster": render_cluster_rules(),
        "lease": render_lease_rules(),
    }
    return header + yaml.safe_dump(rules, sort_keys=False, width=110)


FILES: Final[Mapping[str, Mapping[str, Callable[[], str]]]] = MappingProxyType(
    {
        "docs": {"hybridroute.md": render_object_page, "metrics.md": render_metrics_page},
        "crds": {f"{API_VERSION.split('/')[0]}_{PLURAL}.yaml": render_crd_file},
        "charts": {
            "hybridroute-crds/templates/hybridroutes.yaml": render_crd_file,
            "hybridroute/files/operator-rules.yaml": render_rules_file,
        },
    }
)
"""Folder → file → what writes it."""


def main(arguments: list[str]) -> int:
    """Write the files of some folders, or with `--check` say which differ."""
    check = "--check" in arguments
    folders = [Path(argument) for argument in arguments if argument != "--check"]
    stale = [
        (folder / name, render)
        for folder in folders
        for name, render in FILES[folder.name].items()
        if _read(folder / name) != render()
    ]
    for path, render in stale:
        if check:
            sys.stderr.write(f"{path} is not what `make docs crds` writes\n")
        else:
            path.write_text(render())
    return 1 if check and stale else 0


def _read(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
