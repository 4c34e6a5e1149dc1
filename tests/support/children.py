"""A route's objects on a real API server, and what of them is the same wherever and whenever they were made."""

import json
import re
from typing import Any

from hybridroute_render.kubernetes.kinds import KINDS, ObjectKey
from hybridroute_render.kubernetes.names import ROUTE_LABEL
from support.api_server import ApiServer

__all__ = ["Children", "comparable", "read_children"]

Children = dict[ObjectKey, dict[str, Any]]

_OF_ONE_LIFE = frozenset(
    {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "namespace", "selfLink"}
)
"""Metadata that every object has of its own."""


def read_children(cluster: ApiServer, namespace: str, route: str = "support") -> Children:
    """Return every object that carries the route's label, of each kind that is served."""
    found: Children = {}
    for kind in KINDS.values():
        query = f"?labelSelector={ROUTE_LABEL.replace('/', '%2F')}%3D{route}"
        status, answer = cluster.request("GET", kind.collection(namespace) + query)
        if status == 200:
            of_kind = {"apiVersion": kind.api_version, "kind": kind.name}
            found |= {
                ObjectKey(kind.name, item["metadata"]["name"]): item | of_kind for item in answer["items"]
            }
    return found


def comparable(children: Children, namespace: str) -> Children:
    """Return the objects without what tells one life of them from another: identities, digests, tokens, money."""
    return {key: _bare(child, namespace) for key, child in children.items()}


def _bare(child: dict[str, Any], namespace: str) -> dict[str, Any]:
    made_once = child["kind"] == "Secret" or child["metadata"]["name"].endswith("-ledger")
    kept = {
        key: value for key, value in child.items() if key != "status" and not (made_once and key == "data")
    }
    metadata = {key: value for key, value in child["metadata"].items() if key not in _OF_ONE_LIFE}
    # Digests are of manifests with the namespace and the owner's identity in them.
    metadata.pop("annotations", None)
    metadata["ownerReferences"] = [
        {key: value for key, value in owner.items() if key != "uid"}
        for owner in metadata.get("ownerReferences") or ()
    ]
    text = re.sub(r'(\\"version\\": \\")[0-9a-f]{16}', r"\1DIGEST", json.dumps(kept | {"metadata": metadata}))
    bare: dict[str, Any] = json.loads(re.sub(rf"(?<![-\w]){namespace}(?![-\w])", "NAMESPACE", text))
    return bare
