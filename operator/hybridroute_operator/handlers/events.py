"""Every event of a route, or of an object of a route, asks for a round of that route.

These are kopf's plain event handlers: they need no finalizer and leave no annotation behind.
"""

from collections.abc import Callable, Mapping
from typing import Any

import kopf

from hybridroute_api.crd import PLURAL
from hybridroute_api.v1alpha1.resource import API_VERSION
from hybridroute_operator.observation import RouteKey
from hybridroute_render.kubernetes.kinds import KINDS
from hybridroute_render.kubernetes.names import ROUTE_LABEL

__all__ = ["render_kopf_settings", "watch_routes"]


def watch_routes(add: Callable[[RouteKey], None]) -> kopf.OperatorRegistry:
    """Return the registry of handlers that call `add`."""
    registry = kopf.OperatorRegistry()
    group, version = API_VERSION.split("/")

    @kopf.on.login(registry=registry)
    def log_in(**facts: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**facts) or kopf.login_with_kubeconfig(**facts)

    @kopf.on.event(group, version, PLURAL, registry=registry)
    async def see_route(*, namespace: str | None, name: str, **_: Any) -> None:
        add(RouteKey(namespace or "", name))

    async def see_child(*, namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        add(RouteKey(namespace or "", labels[ROUTE_LABEL]))

    # Secrets are not watched: kopf selects by label on this side, and would be shown every Secret there is.
    watched = [(kind.api_version, kind.plural) for kind in KINDS.values() if kind.name != "Secret"]
    for api_version, plural in [*watched, ("ray.io/v1", "rayclusters"), ("v1", "pods")]:
        of_group, _, of_version = api_version.rpartition("/")
        kopf.on.event(of_group, of_version, plural, labels={ROUTE_LABEL: kopf.PRESENT}, registry=registry)(
            see_child
        )
    return registry


def render_kopf_settings() -> kopf.OperatorSettings:
    """Return settings under which kopf only watches: it posts no events of its own and keeps no peering."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    # A watch that the network forgot is opened anew within this; the routes come by on their own meanwhile.
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    return settings
