"""Golden pairs: a route and the Kubernetes objects that are made of it, byte by byte.

`python tests/support/golden.py` (with `PYTHONPATH=tests`) writes the objects anew; read the difference before
committing it.
"""

from pathlib import Path

import yaml

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_render.kubernetes.objects import render_objects
from hybridroute_render.kubernetes.settings import ClusterSettings
from hybridroute_render.kubernetes.text import dump_yaml

__all__ = ["CLUSTER", "GOLDEN", "golden_names", "read_golden", "read_golden_route", "render_golden"]

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CLUSTER = ClusterSettings(serve_image="hybridroute/serve:0.1.0", pod_monitors=True)


def golden_names() -> list[str]:
    """Return the names of the pairs."""
    return sorted(path.name.removesuffix(".route.yaml") for path in GOLDEN.glob("*.route.yaml"))


def read_golden_route(name: str) -> HybridRoute:
    """Return a pair's route."""
    return HybridRoute.model_validate(yaml.safe_load((GOLDEN / f"{name}.route.yaml").read_text()))


def render_golden(name: str) -> str:
    """Return the objects that a pair's route becomes."""
    objects = render_objects(read_golden_route(name), CLUSTER)
    return "".join(f"---\n{dump_yaml(manifest)}" for manifest in objects)


def read_golden(name: str) -> str:
    """Return a pair's objects as they are kept."""
    return (GOLDEN / f"{name}.objects.yaml").read_text()


def main() -> None:
    """Write the objects of every pair."""
    for name in golden_names():
        (GOLDEN / f"{name}.objects.yaml").write_text(render_golden(name))


if __name__ == "__main__":
    main()
