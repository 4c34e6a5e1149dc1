"""The two RayServices of a route: the gateway on CPUs and the SLM. Pure.

Two, because KubeRay creates services only once all applications of a cluster run: in one cluster a pending GPU would
take the router and the LLM path down with it.
"""

import json
import math
from typing import Any, Final

from hybridroute_api.serving import LONGEST_REQUEST_SECONDS
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.slm import Rollout
from hybridroute_api.v1alpha1.spec import Topology
from hybridroute_render.kubernetes.names import Part, RouteNames
from hybridroute_render.kubernetes.paths import PORTS, render_placement
from hybridroute_render.kubernetes.pods import RayNode, render_container_security, render_pod_template
from hybridroute_render.kubernetes.settings import ClusterSettings
from hybridroute_render.kubernetes.text import dump_yaml
from hybridroute_render.serve_config import (
    CPU_APP_CPUS,
    KEEPER_APP,
    render_gateway_applications,
    render_slm_application,
)

__all__ = ["GPU_RESOURCE", "render_gateway_service", "render_slm_service"]

GPU_RESOURCE: Final = "nvidia.com/gpu"

_KEEPER_RESOURCE: Final = "hybridroute_keeper"
"""Ray resource of the one node whose pod has the keeper's store."""
_GATEWAY_CPUS: Final = 2
"""Logical CPUs of a gateway's pod: eight replicas that wait for others most of the time."""
_GATEWAY_MEMORY: Final = "3Gi"
"""Ray itself takes 1 GiB, a router with its embedding 0.4 GiB, other replicas 0.15 GiB."""
_EMPTY_HEAD_MEMORY: Final = "2Gi"
_HEAD_MEBIBYTES: Final = 1024
"""What Ray's head processes take beside the replicas in the same pod."""
_OBJECT_STORE_BYTES: Final = 100 * 1024 * 1024
"""Requests go over HTTP; Ray's default is 30 % of the pod's memory."""
_HA_WORKERS: Final = 2
_IDLE_SECONDS: Final = 60


def render_gateway_service(
    route: HybridRoute, names: RouteNames, settings: ClusterSettings
) -> dict[str, Any]:
    """Return the RayService of router, llm-proxy and keeper."""
    applications = render_gateway_applications(
        route, render_placement(names, Part.GATEWAY, settings.cluster_domain)
    )
    for application in applications:
        if application["name"] == KEEPER_APP:
            options = application["deployments"][0]["ray_actor_options"]
            application["deployments"][0]["ray_actor_options"] = options | {
                "resources": {_KEEPER_RESOURCE: 1}
            }
    small = route.spec.topology is Topology.SMALL
    # A surge doubles the replicas while an upgrade lasts; the keeper never surges.
    replicas = route.spec.routing.scaling.max_replicas + route.spec.llm.scaling.max_replicas
    pods = math.ceil((2 * replicas + 1) * CPU_APP_CPUS / _GATEWAY_CPUS)
    requests = {"cpu": settings.gateway_cpu, "memory": _GATEWAY_MEMORY}
    worker = RayNode(Part.GATEWAY, head=False, requests=requests)
    keeper_resources = {"num-cpus": str(_GATEWAY_CPUS), "resources": _ray_resources({_KEEPER_RESOURCE: 1})}
    template = render_pod_template(route, names, settings, worker)
    if small:
        head = RayNode(Part.GATEWAY, head=True, requests=requests, keeper=True)
        head_start = keeper_resources
        groups = [_group("gateway", 0, max(pods - 1, 0), {"num-cpus": str(_GATEWAY_CPUS)}, template)]
    else:
        head = RayNode(Part.GATEWAY, head=True, requests=_empty_head(settings))
        head_start = {"num-cpus": "0"}
        keeper = RayNode(Part.GATEWAY, head=False, requests=requests, keeper=True)
        groups = [
            _group(
                "gateway", _HA_WORKERS, max(pods, _HA_WORKERS), {"num-cpus": str(_GATEWAY_CPUS)}, template
            ),
            _group("keeper", 1, 1, keeper_resources, render_pod_template(route, names, settings, keeper)),
        ]
    return _ray_service(
        names.part(Part.GATEWAY),
        applications=applications,
        upgrade="NewCluster",
        exclude_head=not small,
        head={"rayStartParams": head_start, "template": render_pod_template(route, names, settings, head)},
        groups=groups,
        settings=settings,
    )


def render_slm_service(route: HybridRoute, names: RouteNames, settings: ClusterSettings) -> dict[str, Any]:
    """Return the RayService of the SLM: one replica to a pod."""
    slm = route.spec.slm
    application = render_slm_application(route, render_placement(names, Part.SLM, settings.cluster_domain))
    requests = {"cpu": slm.resources.cpu, "memory": slm.resources.memory}
    start = {"num-cpus": "1"}
    if slm.resources.gpus:
        requests[GPU_RESOURCE] = str(slm.resources.gpus)
        start["num-gpus"] = str(slm.resources.gpus)
    worker = RayNode(Part.SLM, head=False, requests=requests, engine=True, extra=_slm_pod(route))
    # A head holds no GPU: it would keep the node when the SLM scales down.
    head_serves = route.spec.topology is Topology.SMALL and not slm.resources.gpus
    if head_serves:
        together = requests | {"memory": _more_memory(slm.resources.memory, _HEAD_MEBIBYTES)}
        head = RayNode(Part.SLM, head=True, requests=together, engine=True, extra=_slm_pod(route))
    else:
        head = RayNode(Part.SLM, head=True, requests=_empty_head(settings))
    beside = 1 if head_serves else 0
    return _ray_service(
        names.part(Part.SLM),
        applications=[application],
        upgrade="NewCluster" if slm.rollout is Rollout.SURGE else "None",
        exclude_head=not head_serves,
        head={
            "rayStartParams": start if head_serves else {"num-cpus": "0"},
            "template": render_pod_template(route, names, settings, head),
        },
        groups=[
            _group(
                "slm",
                slm.scaling.min_replicas - beside,
                slm.scaling.max_replicas - beside,
                start,
                render_pod_template(route, names, settings, worker),
            )
        ],
        settings=settings,
    )


def _empty_head(settings: ClusterSettings) -> dict[str, str]:
    return {"cpu": settings.head_cpu, "memory": _EMPTY_HEAD_MEMORY}


def _slm_pod(route: HybridRoute) -> dict[str, Any]:
    resources = route.spec.slm.resources
    spec: dict[str, Any] = {}
    if resources.node_selector:
        spec["nodeSelector"] = dict(sorted(resources.node_selector.items()))
    if resources.tolerations:
        spec["tolerations"] = [
            toleration.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
            for toleration in resources.tolerations
        ]
    if resources.priority_class_name:
        spec["priorityClassName"] = resources.priority_class_name
    if resources.runtime_class_name:
        spec["runtimeClassName"] = resources.runtime_class_name
    return spec


def _more_memory(quantity: str, mebibytes: int) -> str:
    """Return a quantity of the spec's form (Mi, Gi, Ti) plus some MiB."""
    count, unit = int(quantity[:-2]), quantity[-2:]
    return f"{count * {'Mi': 1, 'Gi': 1024, 'Ti': 1024 * 1024}[unit] + mebibytes}Mi"


def _ray_service(
    name: str,
    *,
    applications: list[dict[str, Any]],
    upgrade: str,
    exclude_head: bool,
    head: dict[str, Any],
    groups: list[dict[str, Any]],
    settings: ClusterSettings,
) -> dict[str, Any]:
    serve = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": PORTS.http},  # noqa: S104 - guarded by tokens and NetworkPolicy
        "applications": applications,
    }
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": name},
        "spec": {
            "serveConfigV2": dump_yaml(serve),
            "upgradeStrategy": {"type": upgrade},
            # The old cluster ends its streams first.
            "rayClusterDeletionDelaySeconds": LONGEST_REQUEST_SECONDS + _IDLE_SECONDS,
            # KubeRay leaves the field out where it is false, and would be told again.
            **({"excludeHeadPodFromServeSvc": True} if exclude_head else {}),
            "rayClusterConfig": {
                "rayVersion": settings.ray_version,
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": {
                    "version": "v2",
                    "idleTimeoutSeconds": _IDLE_SECONDS,
                    "imagePullPolicy": settings.image_pull_policy,
                    "securityContext": render_container_security(),
                    "resources": {
                        "requests": {"cpu": "100m", "memory": "256Mi"},
                        "limits": {"memory": "512Mi"},
                    },
                },
                "headGroupSpec": _lean(head),
                "workerGroupSpecs": [_lean(group) for group in groups],
            },
        },
    }


def _lean(group: dict[str, Any]) -> dict[str, Any]:
    """Return the group with an object store of the size that is used: nearly none."""
    start = group["rayStartParams"] | {"object-store-memory": str(_OBJECT_STORE_BYTES)}
    return group | {"rayStartParams": start}


def _group(
    name: str, least: int, most: int, start: dict[str, str], template: dict[str, Any]
) -> dict[str, Any]:
    return {
        "groupName": name,
        "minReplicas": least,
        "maxReplicas": most,
        "rayStartParams": start,
        "template": template,
    }


def _ray_resources(resources: dict[str, float]) -> str:
    """Return Ray resources as KubeRay passes them to a shell: JSON in single quotes."""
    return f"'{json.dumps(resources)}'"
