"""The kinds of objects that a route owns, and where the API server keeps them. Values, no behaviour beyond paths."""

from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["KINDS", "Kind", "ObjectKey", "key_of", "object_path"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind, as the API server names it."""

    name: str
    api_version: str
    plural: str

    def collection(self, namespace: str) -> str:
        """Return the path of a namespace's objects of this kind."""
        root = "apis" if "/" in self.api_version else "api"
        return f"/{root}/{self.api_version}/namespaces/{namespace}/{self.plural}"


KINDS: Final = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("ServiceAccount", "v1", "serviceaccounts"),
            Kind("Role", "rbac.authorization.k8s.io/v1", "roles"),
            Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings"),
            Kind("ConfigMap", "v1", "configmaps"),
            Kind("Secret", "v1", "secrets"),
            Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies"),
            Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets"),
            Kind("RayService", "ray.io/v1", "rayservices"),
            Kind("PodMonitor", "monitoring.coreos.com/v1", "podmonitors"),
        )
    }
)
"""Kind's name → the kind."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Kind and name of an object in the route's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def key_of(manifest: dict[str, Any]) -> ObjectKey:
    """Return the key of a manifest."""
    return ObjectKey(manifest["kind"], manifest["metadata"]["name"])


def object_path(key: ObjectKey, namespace: str) -> str:
    """Return where the API server keeps an object."""
    return f"{KINDS[key.kind].collection(namespace)}/{key.name}"
