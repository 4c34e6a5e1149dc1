"""What a valid route asks for that a cluster cannot give. Pure.

The counterpart, what one machine cannot give, is `hybridroute_api.v1alpha1.fields.cluster_only_paths`.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.rules import Violation
from hybridroute_api.v1alpha1.slm import BUNDLED_MODELS

__all__ = ["cluster_problems"]


def cluster_problems(route: HybridRoute) -> tuple[Violation, ...]:
    """Return what keeps the route from being accepted in a cluster, in the order of its fields."""
    return tuple(_problems(route))


def _problems(route: HybridRoute) -> Iterator[Violation]:
    uri = route.spec.slm.model.uri
    if uri not in BUNDLED_MODELS and not PurePosixPath(uri).is_absolute():
        yield Violation(
            "cluster-model",
            ("spec", "slm", "model", "uri"),
            "is relative to a file that a cluster does not have: give the absolute path of a file in the SLM's image",
        )
    for index, upstream in enumerate(route.spec.llm.upstreams):
        here = ("spec", "llm", "upstreams", index)
        if upstream.credentials is not None and upstream.credentials.secret_name is None:
            yield Violation(
                "cluster-credentials",
                (*here, "credentials"),
                "has no secretName, and a cluster reads keys from Secrets alone: make a Secret and name it",
            )
        relative = upstream.ca_bundle is not None and not PurePosixPath(upstream.ca_bundle).is_absolute()
        if relative and upstream.ca_bundle_ref is None:
            yield Violation(
                "cluster-ca-bundle",
                (*here, "caBundle"),
                "is relative to a file that a cluster does not have: name a ConfigMap or Secret in caBundleRef",
            )
    policy = route.spec.routing.policy
    if policy is not None and policy.config_map_name is None:
        yield Violation(
            "cluster-policy",
            ("spec", "routing", "policy"),
            "has no configMapName, and a cluster reads policies from ConfigMaps alone: make one and name it",
        )
    if route.spec.auth is not None and route.spec.auth.api_keys_secret_name is None:
        yield Violation(
            "cluster-auth",
            ("spec", "auth"),
            "has no apiKeysSecretName, and a cluster reads keys from Secrets alone: make a Secret and name it",
        )
