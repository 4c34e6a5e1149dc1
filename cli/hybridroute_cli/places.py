"""Where the route is that a command is about, on this machine or in a cluster, and the way there."""

import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Final

import typer

from hybridroute_api.crd import CRD_NAME
from hybridroute_cli.gateway import API_KEY_VARIABLE, Gateway, find_running, gateway_session, open_gateway
from hybridroute_cli.kubectl import Kubectl
from hybridroute_cli.output import CommandError
from hybridroute_render.kubernetes.leftovers import describe_leaving
from hybridroute_render.kubernetes.names import ROUTE_LABEL, Part, RouteNames
from hybridroute_render.kubernetes.paths import PORTS

__all__ = [
    "Context",
    "Namespace",
    "Place",
    "RouteName",
    "Surroundings",
    "find_route",
    "leaving_of",
    "open_in_cluster",
    "open_route",
    "parse_place",
]

RouteName = Annotated[
    str | None, typer.Option("--route", help="Name of the route; not needed when there is one.")
]
Namespace = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Look in this namespace of a cluster.")
]
Context = Annotated[
    str | None, typer.Option("--context", help="Look in the cluster of this context of the kubeconfig.")
]

_SERVICES: Final = "rayservices.ray.io"


class Surroundings(Enum):
    """Where a command looks that names neither namespace nor context."""

    MACHINE = "machine"
    CLUSTER = "cluster"
    """As a plugin of kubectl."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a person said of the route."""

    route: str | None
    cluster: Kubectl | None
    """None: on this machine."""


def parse_place(call: typer.Context, route: str | None, namespace: str | None, context: str | None) -> Place:
    """Return the place that a command's options name."""
    in_cluster = call.obj is Surroundings.CLUSTER or namespace is not None or context is not None
    return Place(route, Kubectl(namespace=namespace, context=context) if in_cluster else None)


async def find_route(cluster: Kubectl, name: str | None) -> dict[str, Any]:
    """Return the named HybridRoute, or the only one of the namespace. Raises `CommandError`."""
    if name is None:
        items = (await cluster.get(CRD_NAME) or {}).get("items") or []
        names = sorted(item["metadata"]["name"] for item in items)
        if len(names) > 1:
            raise CommandError(f"several routes are there: {', '.join(names)}; choose one with --route")
        if not names:
            raise CommandError("no route is in this namespace; choose another with --namespace")
        [route] = items
    else:
        found = await cluster.get(CRD_NAME, name)
        if found is None:
            left = "; ".join(await leaving_of(cluster, name))
            raise CommandError(f"route {name} does not exist" + (f", but {left}" if left else ""))
        route = found
    document: dict[str, Any] = route
    return document


async def leaving_of(cluster: Kubectl, name: str) -> list[str]:
    """Return what of the route is being deleted and waits, a sentence each."""
    found = await cluster.get(_SERVICES, f"--selector={ROUTE_LABEL}={name}")
    return describe_leaving((found or {}).get("items") or ())


@asynccontextmanager
async def open_route(place: Place, *, asks_keeper: bool = True) -> AsyncIterator[Gateway]:
    """Open a client of the route. `asks_keeper`: False needs no right to read the route's internal token."""
    if place.cluster is None:
        directory, run = find_running(place.route)
        async with open_gateway(directory, run) as gateway:
            yield gateway
        return
    route = await find_route(place.cluster, place.route)
    async with open_in_cluster(place.cluster, route, asks_keeper=asks_keeper) as gateway:
        yield gateway


@asynccontextmanager
async def open_in_cluster(
    cluster: Kubectl, route: dict[str, Any], *, asks_keeper: bool = True
) -> AsyncIterator[Gateway]:
    """Open a client of a route of a cluster, over a forwarded port. Raises `CommandError` while nothing listens."""
    metadata = route["metadata"]
    names = RouteNames(metadata["name"], metadata["namespace"])
    token = await _read_token(cluster, names.internal) if asks_keeper else ""
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    advice = f"see `kubectl hybridroute status --route {names.route} --namespace {names.namespace}`"
    async with (
        cluster.forward(names.serve_service(Part.GATEWAY), PORTS.http) as url,
        gateway_session() as session,
    ):
        yield Gateway(session, url, token, api_key=key, advice=advice)


async def _read_token(cluster: Kubectl, name: str) -> str:
    secret = await cluster.get("secret", name)
    if secret is None:
        raise CommandError(f"Secret {name} does not exist: the operator has not made the route yet")
    return base64.b64decode((secret.get("data") or {}).get("token", "")).decode()
