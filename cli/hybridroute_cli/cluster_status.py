"""`hybridroute status` in a cluster: what the object says of itself, what the keeper adds, what is on its way out."""

from typing import Any

from rich.table import Table

from hybridroute_cli.kubectl import Kubectl
from hybridroute_cli.output import CommandError, console
from hybridroute_cli.places import find_route, leaving_of, open_in_cluster
from hybridroute_cli.state_lines import describe_problems, describe_state

__all__ = ["observe_in_cluster", "print_cluster_status"]


async def observe_in_cluster(cluster: Kubectl, name: str | None) -> dict[str, Any]:
    """Return the route's state. The keeper is asked where there is a way to it; its silence is a line, no failure."""
    route = await find_route(cluster, name)
    metadata, status = route["metadata"], route.get("status") or {}
    document: dict[str, Any] = {
        "route": metadata["name"],
        "namespace": metadata["namespace"],
        "ready": any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
        "current": status.get("observedGeneration", 0) == metadata.get("generation", 0),
        "status": status,
        "leaving": await leaving_of(cluster, metadata["name"]),
        "keeper": None,
        "detail": "",
    }
    if not status:
        document["detail"] = "nobody has looked at this route: is the operator running?"
        return document
    try:
        async with open_in_cluster(cluster, route) as gateway:
            document["keeper"] = await gateway.ask_keeper("/state")
    except CommandError as error:
        document["detail"] = f"the keeper was not asked: {error}"
    return document


def print_cluster_status(document: dict[str, Any]) -> None:
    """Print it for people."""
    out, status = console(), document["status"]
    ready = "[green]ready[/]" if document["ready"] else "[red]not ready[/]"
    out.print(
        f"route {document['namespace']}/{document['route']} at {status.get('url', 'no address yet')}: {ready}"
    )
    if not document["current"]:
        out.print("the operator has not yet seen the last change of the object", style="yellow")
    for line in (*document["leaving"], document["detail"]):
        if line:
            out.print(line, markup=False, style="yellow")
    if status.get("conditions"):
        conditions = Table("condition", "status", "reason", "message")
        for item in status["conditions"]:
            conditions.add_row(*(item.get(key, "") for key in ("type", "status", "reason", "message")))
        out.print(conditions)
    paths = status.get("paths") or {}
    if paths:
        out.print(
            "replicas: " + ", ".join(f"{name} {paths[name]['readyReplicas']}" for name in sorted(paths))
        )
    cost = status.get("cost") or {}
    if cost:
        out.print(f"slm USD {cost['slmUSD']}, llm USD {cost['llmUSD']}; saved USD {cost['savedUSD']}")
    keeper = document["keeper"]
    if keeper is not None:
        for line in describe_state(keeper):
            out.print(line, markup=False)
        for line in describe_problems(keeper):
            out.print(line, markup=False, style="yellow")
