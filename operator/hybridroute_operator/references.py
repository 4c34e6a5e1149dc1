"""Secrets and ConfigMaps of other people that a route names: which there are, and what is wrong with them. Pure.

The operator reads the names of their entries and never a value; the kubelet mounts them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.llm import UpstreamSpec
from hybridroute_operator.observation import Observation
from hybridroute_render.kubernetes.kinds import ObjectKey

__all__ = ["clients_problem", "named_objects", "policy_problem", "upstreams_problem"]


@dataclass(frozen=True, slots=True)
class _Reference:
    """One entry that the route needs."""

    kind: str
    name: str
    entry: str
    owner: str
    """Whose it is, for people: completes "Secret x of …"."""


def named_objects(route: HybridRoute) -> tuple[ObjectKey, ...]:
    """Return the objects that the spec names, once each."""
    references = [*_of_clients(route), *_of_policy(route)]
    for upstream in route.spec.llm.upstreams:
        references += _of_upstream(upstream)
    return tuple(sorted({ObjectKey(reference.kind, reference.name) for reference in references}))


def clients_problem(route: HybridRoute, observed: Observation) -> str:
    """Return what is wrong with the clients' keys; empty when nothing is."""
    return "; ".join(_problems(_of_clients(route), observed))


def upstreams_problem(route: HybridRoute, observed: Observation) -> str:
    """Return what is wrong with the upstreams' keys and authorities; empty while one upstream has all it needs."""
    found = [list(_problems(_of_upstream(upstream), observed)) for upstream in route.spec.llm.upstreams]
    return "; ".join(text for texts in found for text in texts) if all(found) else ""


def policy_problem(route: HybridRoute, observed: Observation) -> str:
    """Return what is wrong with the ConfigMap of the calibrated policy; empty when nothing is."""
    return "; ".join(_problems(_of_policy(route), observed))


def _of_policy(route: HybridRoute) -> Iterator[_Reference]:
    policy = route.spec.routing.policy
    if policy is not None and policy.config_map_name is not None:
        yield _Reference("ConfigMap", policy.config_map_name, policy.key, "spec.routing.policy")


def _of_clients(route: HybridRoute) -> Iterator[_Reference]:
    auth = route.spec.auth
    if auth is not None and auth.api_keys_secret_name is not None:
        yield _Reference("Secret", auth.api_keys_secret_name, auth.api_keys_secret_key, "spec.auth")


def _of_upstream(upstream: UpstreamSpec) -> Iterator[_Reference]:
    credentials, authorities = upstream.credentials, upstream.ca_bundle_ref
    owner = f"upstream {upstream.name}"
    if credentials is not None and credentials.secret_name is not None:
        yield _Reference("Secret", credentials.secret_name, credentials.key, owner)
    if authorities is not None and authorities.secret_name is not None:
        yield _Reference("Secret", authorities.secret_name, authorities.key, owner)
    if authorities is not None and authorities.config_map_name is not None:
        yield _Reference("ConfigMap", authorities.config_map_name, authorities.key, owner)


def _problems(references: Iterator[_Reference], observed: Observation) -> Iterator[str]:
    known: Mapping[str, Mapping[str, frozenset[str]]] = {
        "Secret": observed.secret_keys,
        "ConfigMap": observed.config_map_keys,
    }
    for reference in references:
        entries = known[reference.kind].get(reference.name)
        told = f"{reference.kind} {reference.name} of {reference.owner}"
        if entries is None:
            yield f"{told} does not exist"
        elif reference.entry not in entries:
            yield f"{told} has no key {reference.entry}"
