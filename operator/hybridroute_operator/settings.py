"""What a person may set about an operator: arguments, each with an environment variable for the chart."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hybridroute_render.kubernetes.settings import ClusterSettings

__all__ = ["OperatorSettings", "parse_settings"]


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """One operator's settings."""

    cluster: ClusterSettings
    namespaces: tuple[str, ...]
    """Namespaces that are watched; empty: all."""
    lease_namespace: str
    leader_election: bool
    identity: str
    """Name of this replica in the Lease and in events."""
    probe_port: int
    kubeconfig: str | None
    """File to reach the API server with; None: the pod's own account."""


def parse_settings(arguments: Sequence[str], environ: Mapping[str, str]) -> OperatorSettings:
    """Return the settings. Exits with a message for arguments that are wrong."""
    parser = argparse.ArgumentParser("hybridroute-operator", description=__doc__)

    def option(name: str, default: str, words: str) -> None:
        variable = f"HYBRIDROUTE_{name.removeprefix('--').replace('-', '_').upper()}"
        shown = f"{words} ({variable}, default {default or 'none'})"
        parser.add_argument(name, default=environ.get(variable, default), help=shown)

    option("--serve-image", "hybridroute/serve:0.1.0", "Image of pods whose route names none.")
    option("--image-pull-policy", "IfNotPresent", "Pull policy of the pods.")
    option("--ray-version", "2.60.0", "Version of Ray in the image.")
    option("--gateway-cpu", "1", "CPU that each pod of a gateway asks for.")
    option("--head-cpu", "500m", "CPU that a Ray head asks for which serves nothing.")
    option("--cluster-domain", "cluster.local", "DNS domain of the cluster's Services.")
    option("--namespaces", "", "Namespaces to watch, separated by commas; none means all.")
    option("--lease-namespace", "default", "Namespace of the Lease.")
    option("--probe-port", "8080", "Port of /healthz, /readyz and /metrics.")
    option("--kubeconfig", "", "File to reach the API server with; none means the pod's own account.")
    parser.add_argument("--no-leader-election", action="store_true", help="Lead at once, alone.")
    parser.add_argument(
        "--no-pod-monitors", action="store_true", help="Make none, even where the cluster knows PodMonitors."
    )
    given = parser.parse_args(arguments)
    return OperatorSettings(
        cluster=ClusterSettings(
            serve_image=given.serve_image,
            image_pull_policy=given.image_pull_policy,
            ray_version=given.ray_version,
            gateway_cpu=given.gateway_cpu,
            head_cpu=given.head_cpu,
            cluster_domain=given.cluster_domain,
            pod_monitors=not given.no_pod_monitors,
        ),
        namespaces=tuple(name.strip() for name in given.namespaces.split(",") if name.strip()),
        lease_namespace=given.lease_namespace,
        leader_election=not given.no_leader_election,
        identity=environ.get("HOSTNAME") or os.uname().nodename,
        probe_port=int(given.probe_port),
        kubeconfig=given.kubeconfig or None,
    )
