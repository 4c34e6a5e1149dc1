"""HybridRoute → every Kubernetes object that belongs to it. Pure: the same route gives the same objects.

Two exceptions are made once, and their content is not a function of the route: the Secret with the internal tokens
(`render_internal_secret`), and the ConfigMap of the dollar ledger (`render_ledger`), which the keeper writes.
"""

import hashlib
from typing import Any, Final

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.resource import API_VERSION, KIND
from hybridroute_render.kubernetes.access import render_access
from hybridroute_render.kubernetes.names import Part, RouteNames, render_labels
from hybridroute_render.kubernetes.network import (
    render_disruption_budgets,
    render_network_policies,
    render_pod_monitor,
)
from hybridroute_render.kubernetes.paths import (
    CLIENTS_FILE,
    LIVE_KEY,
    PORTS,
    authorities_file,
    credential_file,
)
from hybridroute_render.kubernetes.ray_services import render_gateway_service, render_slm_service
from hybridroute_render.kubernetes.settings import ClusterSettings
from hybridroute_render.live import ResolvedUpstream, render_live_policy

__all__ = [
    "ACCEPTED_DIGEST",
    "ACCEPTED_SPEC",
    "DEFAULT_NAMESPACE",
    "Manifest",
    "render_internal_secret",
    "render_ledger",
    "render_objects",
    "route_names",
    "route_url",
]

Manifest = dict[str, Any]
"""One Kubernetes object, as server-side apply takes it."""

DEFAULT_NAMESPACE: Final = "default"
ACCEPTED_SPEC: Final = "spec.json"
"""Entry of the ConfigMap with the spec that was accepted last."""
ACCEPTED_DIGEST: Final = "sha256"
"""Entry beside it: digest of its text, by which an edit is told."""


def render_objects(route: HybridRoute, settings: ClusterSettings) -> tuple[Manifest, ...]:
    """Return the objects in the order in which they are applied: what others refer to comes first.

    The route must have no `cluster_problems`.
    """
    names = route_names(route)
    objects = [
        # First: whatever follows of this spec can be repaired by it.
        _render_accepted(route, names),
        *render_access(names, route.spec.routing.policy),
        _render_live(route, names),
        *render_network_policies(names),
        *render_disruption_budgets(names),
        render_gateway_service(route, names, settings),
        render_slm_service(route, names, settings),
    ]
    if settings.pod_monitors:
        objects.append(render_pod_monitor(names))
    return tuple(_owned(route, names, manifest) for manifest in objects)


def render_internal_secret(route: HybridRoute, *, token: str, metrics_token: str) -> Manifest:
    """Return the Secret that guards the paths and the metrics, with the tokens given."""
    names = route_names(route)
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": names.internal},
        "type": "Opaque",
        "stringData": {"token": token, "metrics-token": metrics_token},
    }
    return _owned(route, names, secret)


def render_ledger(route: HybridRoute, *, first: bool) -> Manifest:
    """Return the ConfigMap in which the keeper begins the dollar ledger.

    `first`: nothing of the route exists yet, so nothing was ever spent. Else one was lost, and the budget is exhausted
    until what may have been spent no longer counts.
    """
    names = route_names(route)
    ledger = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.ledger},
        "data": {"past": "none" if first else "unknown"},
    }
    return _owned(route, names, ledger)


def route_names(route: HybridRoute) -> RouteNames:
    """Return the names of the route's objects."""
    return RouteNames(route.metadata.name, route.metadata.namespace or DEFAULT_NAMESPACE)


def route_url(route: HybridRoute) -> str:
    """Return the base address for OpenAI clients inside the cluster."""
    names = route_names(route)
    return f"http://{names.serve_service(Part.GATEWAY)}.{names.namespace}.svc:{PORTS.http}/v1"


def _render_accepted(route: HybridRoute, names: RouteNames) -> Manifest:
    text = route.spec.model_dump_json(by_alias=True, exclude_unset=True, indent=1) + "\n"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.accepted},
        "data": {ACCEPTED_SPEC: text, ACCEPTED_DIGEST: hashlib.sha256(text.encode()).hexdigest()},
    }


def _render_live(route: HybridRoute, names: RouteNames) -> Manifest:
    resolved = tuple(
        ResolvedUpstream(
            upstream.name,
            base_url=upstream.base_url,
            credential_file=credential_file(upstream.name) if upstream.credentials else None,
            ca_file=authorities_file(upstream.name) if upstream.ca_bundle_ref else upstream.ca_bundle,
        )
        for upstream in route.spec.llm.upstreams
    )
    calibrated = route.spec.routing.policy
    policy = render_live_policy(
        route,
        resolved,
        keys_file=CLIENTS_FILE,
        policy_config_map=None
        if calibrated is None or calibrated.config_map_name is None
        else f"{names.namespace}/{calibrated.config_map_name}/{calibrated.key}",
    )
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": names.live},
        "data": {LIVE_KEY: policy.model_dump_json(indent=1) + "\n"},
    }


def _owned(route: HybridRoute, names: RouteNames, manifest: Manifest) -> Manifest:
    """Return the manifest with namespace, labels and, once the route exists, its owner reference."""
    name = manifest["metadata"]["name"]
    part = next((part for part in Part if name == names.part(part)), None)
    metadata = {"name": name, "namespace": names.namespace, "labels": render_labels(names.route, part)}
    if route.metadata.uid is not None:
        # Garbage collection alone; the route's deletion waits for nobody.
        metadata["ownerReferences"] = [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": names.route,
                "uid": route.metadata.uid,
                "controller": True,
            }
        ]
    return (
        {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"]} | manifest | {"metadata": metadata}
    )
