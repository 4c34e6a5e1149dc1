"""The rights of the operator's own account, least and complete: installed by the chart, tested by running under them.

Pure. A right that it grants to a route's pods it must hold itself; the API server sees to that.
"""

from typing import Any

from hybridroute_api.crd import PLURAL
from hybridroute_api.v1alpha1.resource import API_VERSION
from hybridroute_render.kubernetes.kinds import KINDS

__all__ = ["render_cluster_rules", "render_lease_rules", "render_namespace_rules"]


def render_namespace_rules() -> list[dict[str, Any]]:
    """Return the rules for each namespace with routes: of a Role there, or of a ClusterRole for all of them."""
    group = API_VERSION.split("/")[0]
    owned: dict[str, list[str]] = {}
    for kind in KINDS.values():
        if kind.name != "Secret":
            owned.setdefault(kind.api_version.rpartition("/")[0], []).append(kind.plural)
    return [
        _rule(group, [PLURAL], "get", "list", "watch"),
        _rule(group, [f"{PLURAL}/status"], "patch"),
        *(
            _rule(of_group, plurals, "get", "list", "watch", "create", "patch", "delete")
            for of_group, plurals in owned.items()
        ),
        # Read to say which key is missing; made once with random tokens; never listed.
        _rule("", ["secrets"], "get", "create"),
        _rule("ray.io", ["rayclusters"], "get", "list", "watch", "patch"),
        _rule("", ["pods"], "list", "watch"),
        _rule("", ["events"], "create", "patch"),
    ]


def render_cluster_rules() -> list[dict[str, Any]]:
    """Return the rules of a ClusterRole for installs that watch every namespace."""
    return [
        _rule("apiextensions.k8s.io", ["customresourcedefinitions"], "list", "watch"),
        _rule("", ["namespaces"], "list", "watch"),
    ]


def render_lease_rules() -> list[dict[str, Any]]:
    """Return the rules of a Role in the operator's own namespace."""
    return [_rule("coordination.k8s.io", ["leases"], "get", "create", "update")]


def _rule(group: str, resources: list[str], *verbs: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}
