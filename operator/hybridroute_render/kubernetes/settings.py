"""What a cluster's installation decides for every route in it. Values, no behaviour."""

from dataclasses import dataclass

__all__ = ["ClusterSettings"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Settings of the operator that show in what it makes."""

    serve_image: str
    """Image of pods whose route names none."""
    image_pull_policy: str = "IfNotPresent"
    ray_version: str = "2.60.0"
    """Version of Ray in the image; KubeRay reads it."""
    gateway_cpu: str = "1"
    """CPU that each pod of a gateway asks for. It may use more: CPU is not limited."""
    head_cpu: str = "500m"
    """The same of a Ray head that serves nothing."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster's Services."""
    pod_monitors: bool = True
    """False makes no PodMonitors. True makes them where the cluster knows the kind."""
