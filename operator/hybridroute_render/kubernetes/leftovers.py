"""What of a route is on its way out, and what it waits for, in words for people. Pure.

KubeRay puts a finalizer on every RayService: with KubeRay down a deleted route's children stay. Said by the operator in
an event, and by `hybridroute status`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["KUBERAY_FINALIZERS", "describe_leaving"]

KUBERAY_FINALIZERS = "ray.io/"
"""How the names of KubeRay's finalizers begin."""


def describe_leaving(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a sentence for each object that is being deleted and is still there, in the order of their names."""
    leaving = [item for item in objects if "deletionTimestamp" in item["metadata"]]
    return [_describe(item) for item in sorted(leaving, key=lambda item: str(item["metadata"]["name"]))]


def _describe(item: Mapping[str, Any]) -> str:
    metadata = item["metadata"]
    finalizers = metadata.get("finalizers") or ()
    waits = ", ".join(finalizers) or "the garbage collector"
    told = f"{item.get('kind', 'RayService')} {metadata['name']} is being deleted and waits for {waits}"
    kuberay = any(str(name).startswith(KUBERAY_FINALIZERS) for name in finalizers)
    return f"{told}, which KubeRay takes away when it runs" if kuberay else told
