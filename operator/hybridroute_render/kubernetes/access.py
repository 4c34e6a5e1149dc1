"""What a route's pods may do at the API server: next to nothing. Pure.

KubeRay binds the rights of Ray's autoscaler to the head's account by itself. Ours are two ConfigMaps, and a third
where the route has a calibrated policy.
"""

from typing import Any

from hybridroute_api.v1alpha1.routing import Policy
from hybridroute_render.kubernetes.names import Part, RouteNames

__all__ = ["render_access"]


def render_access(names: RouteNames, policy: Policy | None) -> list[dict[str, Any]]:
    """Return an account for each part, and the gateway's rights: live policy, calibrated policy and ledger."""
    gateway = names.part(Part.GATEWAY)
    readable = [names.live]
    if policy is not None and policy.config_map_name is not None:
        readable.append(policy.config_map_name)
    accounts = [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": names.part(part)},
            "automountServiceAccountToken": False,
        }
        for part in Part
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": gateway},
        "rules": [
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": readable,
                "verbs": ["get"],
            },
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [names.ledger],
                # Compare-and-swap is a patch that names the version. Making it is the operator's.
                "verbs": ["get", "patch"],
            },
        ],
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": gateway},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": gateway},
        "subjects": [{"kind": "ServiceAccount", "name": gateway, "namespace": names.namespace}],
    }
    return [*accounts, role, binding]
