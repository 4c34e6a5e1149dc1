"""Pod templates of Ray nodes: what they may do, what they mount, what they ask for. Pure.

Every pod passes the `restricted` pod security level. KubeRay adds probes, the init container and, on the head, the
autoscaler; it takes their security context from what is here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final

from hybridroute_api.model_uris import parse_claim
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.llm import UpstreamSpec
from hybridroute_api.v1alpha1.slm import Engine
from hybridroute_render.kubernetes.names import Part, RouteNames, render_pod_labels
from hybridroute_render.kubernetes.paths import (
    AUTHORITIES_DIR,
    CLAIMS_DIR,
    CLIENTS_DIR,
    CLIENTS_FILE,
    CREDENTIALS_DIR,
    HUB_TOKEN_DIR,
    HUB_TOKEN_FILE,
    INTERNAL_DIR,
    PORTS,
    STATE_DIR,
    WORK_DIR,
)
from hybridroute_render.kubernetes.settings import ClusterSettings
from hybridroute_render.serve_config import SLM_APP
from hybridroute_render.serve_environment import render_serve_environment

__all__ = ["RayNode", "render_container_security", "render_pod_template"]

_USER: Final = 1000
"""The image's user; its group owns the volumes."""
_HAPROXY_CORES: Final = 2
_DRAIN_SECONDS: Final = 120
"""How long an SLM's pod that is to stop finishes its answers; the default of `slm.timeouts.total`."""
_GRACE_SECONDS: Final = _DRAIN_SECONDS + 30


@dataclass(frozen=True, slots=True)
class RayNode:
    """One kind of Ray node: a head or the workers of a group."""

    part: Part
    head: bool
    requests: Mapping[str, str]
    """CPU and memory, and GPUs under their resource's name."""
    keeper: bool = False
    """True where the keeper runs: its store is mounted there."""
    engine: bool = False
    """True where SLM replicas run: what their engine reads is mounted there."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of the pod's spec, such as a node selector."""


def render_container_security() -> dict[str, Any]:
    """Return the security context of a container that passes the `restricted` level."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def render_pod_template(
    route: HybridRoute, names: RouteNames, settings: ClusterSettings, node: RayNode
) -> dict[str, Any]:
    """Return the template of a node's pods."""
    pods, slm = route.spec.pods, route.spec.slm
    image = (slm.image if node.part is Part.SLM else None) or pods.image or settings.serve_image
    volumes = _volumes(route, names, node)
    pull_secrets = [{"name": name} for name in pods.image_pull_secrets]
    spec = {
        "serviceAccountName": names.part(node.part),
        # The head's autoscaler and the keeper talk to the API server, nothing else does.
        "automountServiceAccountToken": node.head or node.keeper,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(image, settings, node, volumes)],
        "volumes": [volume for volume, _ in volumes],
    }
    if node.part is Part.SLM:
        # The gateway's pods are replaced by a second cluster, and end after their streams.
        spec["terminationGracePeriodSeconds"] = _GRACE_SECONDS
    if node.head:
        # Ray's autoscaler beside it would be its container's first process, which no SIGTERM ends: the pod would hold
        # CPU and memory for its whole grace period, and what takes its place would wait.
        spec["shareProcessNamespace"] = True
    if pull_secrets:
        spec["imagePullSecrets"] = pull_secrets
    if pods.priority_class_name:
        spec["priorityClassName"] = pods.priority_class_name
    return {"metadata": {"labels": render_pod_labels(names.route, node.part)}, "spec": spec | node.extra}


def _container(
    image: str, settings: ClusterSettings, node: RayNode, volumes: list[tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, Any]:
    environment = render_serve_environment(PORTS, cores=_HAPROXY_CORES)
    ports = {"serve": PORTS.http, "haproxy": PORTS.haproxy_metrics, "metrics": 8080}
    if node.head:
        ports |= {"gcs-server": 6379, "dashboard": 8265}
    # GPUs must be limited to be asked for. CPU is not limited: a throttled HAProxy delays every request.
    limits = {key: value for key, value in node.requests.items() if key != "cpu"}
    drain = ["python", "-m", "hybridroute_serve.drain", SLM_APP, f"--seconds={_DRAIN_SECONDS}"]
    stopping = {"lifecycle": {"preStop": {"exec": {"command": drain}}}} if node.part is Part.SLM else {}
    return {
        "name": f"ray-{'head' if node.head else 'worker'}",
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "resources": {"requests": dict(node.requests), "limits": limits},
        "securityContext": render_container_security(),
        "volumeMounts": [mount for _, mount in volumes],
    } | stopping


def _volumes(
    route: HybridRoute, names: RouteNames, node: RayNode
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return volumes with their mounts. Keys of providers are mounted in the gateway's pods alone."""
    found = [
        _volume("internal", INTERNAL_DIR, {"secret": {"secretName": names.internal}}, read_only=True),
        _volume("work", WORK_DIR, {"emptyDir": {}}),
    ]
    if node.part is Part.GATEWAY:
        found += _mounted_for_clients(route)
        for upstream in route.spec.llm.upstreams:
            found += _mounted_for(upstream)
    if node.engine:
        found += _mounted_for_engine(route)
    if node.keeper:
        claim = route.spec.records.claim_name
        found.append(
            _volume(
                "state",
                STATE_DIR,
                {"persistentVolumeClaim": {"claimName": claim}} if claim else {"emptyDir": {}},
            )
        )
    return found


def _mounted_for(upstream: UpstreamSpec) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what an upstream needs. Optional: a pod that waits for a Secret could not even say what it waits for."""
    credentials, authorities = upstream.credentials, upstream.ca_bundle_ref
    if credentials is not None and credentials.secret_name is not None:
        items = [{"key": credentials.key, "path": "key"}]
        source = {"secret": {"secretName": credentials.secret_name, "items": items, "optional": True}}
        where = f"{CREDENTIALS_DIR}/{upstream.name}"
        yield _volume(f"credentials-{upstream.name}", where, source, read_only=True)
    if authorities is not None:
        items = [{"key": authorities.key, "path": "ca.crt"}]
        if authorities.secret_name is not None:
            source = {"secret": {"secretName": authorities.secret_name, "items": items, "optional": True}}
        else:
            source = {"configMap": {"name": authorities.config_map_name, "items": items, "optional": True}}
        where = f"{AUTHORITIES_DIR}/{upstream.name}"
        yield _volume(f"authorities-{upstream.name}", where, source, read_only=True)


def _mounted_for_engine(route: HybridRoute) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield what the small model's engine reads: volumes of models, the hub's token, memory that processes share."""
    slm = route.spec.slm
    found = (parse_claim(uri) for uri in (slm.model.uri, *slm.adapters.values()))
    for claim in sorted({path.claim for path in found if path is not None}):
        source = {"persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
        yield _volume(f"claim-{claim.replace('.', '-')}", f"{CLAIMS_DIR}/{claim}", source, read_only=True)
    credentials = slm.model.credentials
    if credentials is not None and credentials.secret_name is not None:
        items = [{"key": credentials.key, "path": PurePosixPath(HUB_TOKEN_FILE).name}]
        secret = {"secret": {"secretName": credentials.secret_name, "items": items, "optional": True}}
        yield _volume("hub-token", HUB_TOKEN_DIR, secret, read_only=True)
    if slm.engine is Engine.VLLM:
        # Its processes exchange tensors there; a container has 64 MiB by default.
        yield _volume("shared-memory", "/dev/shm", {"emptyDir": {"medium": "Memory"}})  # noqa: S108


def _mounted_for_clients(route: HybridRoute) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the clients file: the router reads their keys, the llm-proxy and the keeper their budgets."""
    auth = route.spec.auth
    if auth is not None and auth.api_keys_secret_name is not None:
        items = [{"key": auth.api_keys_secret_key, "path": PurePosixPath(CLIENTS_FILE).name}]
        source = {"secret": {"secretName": auth.api_keys_secret_name, "items": items, "optional": True}}
        yield _volume("clients", CLIENTS_DIR, source, read_only=True)


def _volume(
    name: str, path: str, source: dict[str, Any], *, read_only: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    mount = {"name": name, "mountPath": path} | ({"readOnly": True} if read_only else {})
    return {"name": name} | source, mount
