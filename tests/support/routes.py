"""A small valid route, whole or with some fields changed."""

import copy
from typing import Any

import yaml

from hybridroute_api.v1alpha1 import HybridRoute

__all__ = ["ROUTE_YAML", "merged", "route_document", "route_of"]

ROUTE_YAML = """\
apiVersion: hybridroute.dev/v1alpha1
kind: HybridRoute
metadata:
  name: support
spec:
  slm:
    model: {uri: "bundled:smollm2-135m"}
    pricing: {machineHourUSD: "0.10"}
  llm:
    upstreams:
      - name: primary
        baseURL: https://provider.example/v1
        model: big
        pricing:
          inputPerMillionTokensUSD: "2.50"
          outputPerMillionTokensUSD: "10.00"
"""


def route_document(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the route as a document, with the changes merged in."""
    document: dict[str, Any] = yaml.safe_load(ROUTE_YAML)
    return merged(document, changes or {})


def route_of(changes: dict[str, Any] | None = None) -> HybridRoute:
    """Return the route with the changes merged in. A list in the changes merges item by item."""
    return HybridRoute.model_validate(route_document(changes))


def merged(base: Any, changes: Any) -> Any:
    """Return `base` with `changes` laid over it; neither is touched."""
    if isinstance(base, dict) and isinstance(changes, dict):
        keys = [*base, *(key for key in changes if key not in base)]
        return {key: merged(base.get(key), changes[key]) if key in changes else base[key] for key in keys}
    if isinstance(base, list) and isinstance(changes, list):
        shared = [merged(old, new) for old, new in zip(base, changes, strict=False)]
        return [*shared, *changes[len(base) :]] if len(changes) >= len(base) else shared
    return copy.deepcopy(changes)
