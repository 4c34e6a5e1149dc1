"""`hybridroute status`: what runs, what serves, what it costs."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from hybridroute_cli.cluster_status import observe_in_cluster, print_cluster_status
from hybridroute_cli.gateway import find_running, open_gateway
from hybridroute_cli.instance import is_alive
from hybridroute_cli.output import CommandError, command_errors, console, print_json
from hybridroute_cli.places import Context, Namespace, RouteName, parse_place
from hybridroute_cli.processes import find_processes
from hybridroute_cli.state_lines import describe_problems, describe_state

__all__ = ["status"]

_PATIENCE_SECONDS = 5.0
"""Whoever asks for the state wants to hear soon that there is no answer."""


def status(
    call: typer.Context,
    route: RouteName = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Show the state of a route; exit status 1 when it does not serve."""
    with command_errors(as_json=as_json):
        place = parse_place(call, route, namespace, context)
        document = asyncio.run(
            _observe(route) if place.cluster is None else observe_in_cluster(place.cluster, route)
        )
    if as_json:
        print_json(document)
    elif place.cluster is not None:
        print_cluster_status(document)
    else:
        _print_status(document)
    if not document["ready"]:
        raise typer.Exit(1)


async def _observe(route: str | None) -> dict[str, Any]:
    directory, run = find_running(route)
    phase = directory.read_phase()
    alive = is_alive(run)
    document: dict[str, Any] = {
        "route": run.route,
        "url": run.url,
        "ready": False,
        "supervisor": "running" if alive else "dead",
        "phase": phase.name if phase else "unknown",
        "detail": phase.detail if phase else "",
        "applications": (phase.applications if phase else None) or {},
        "processes": len(find_processes(run.run_id)),
        "stand_in": run.stand_in,
        "keeper": None,
        "costs": None,
    }
    if not alive:
        document["detail"] = "the supervisor died; `hybridroute up -f FILE` cleans up and starts again"
        document["phase"] = "dead"
        document["applications"] = dict.fromkeys(document["applications"], "UNKNOWN")
        return document
    advice = f"what runs behind it, and why, is in {directory.log_file}"
    async with open_gateway(directory, run, patience_seconds=_PATIENCE_SECONDS, advice=advice) as gateway:
        told: tuple[Any, ...] = await asyncio.gather(
            gateway.ready_paths(),
            gateway.ask_keeper("/state"),
            gateway.ask_keeper("/costs"),
            return_exceptions=True,
        )
    document["ready"] = not isinstance(told[0], BaseException) and bool(told[0])
    for name, answer in zip(("keeper", "costs"), told[1:], strict=True):
        if isinstance(answer, CommandError):
            document["detail"] = str(answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            document[name] = answer
    return document


def _print_status(document: dict[str, Any]) -> None:
    out = console()
    ready = "[green]ready[/]" if document["ready"] else "[red]not ready[/]"
    out.print(f"route {document['route']} at {document['url']}: {ready} ({document['phase']})")
    if document["detail"]:
        out.print(document["detail"], markup=False, style="yellow")
    if document["stand_in"]:
        out.print("the LLM path is a local stand-in, not a real model")
    table = Table("application", "status")
    for name, state in sorted(document["applications"].items()):
        table.add_row(name, state)
    out.print(table)
    costs = document["costs"]
    if costs is not None:
        spent = ", ".join(
            f"{path} {f['requests']} requests USD {f['usd']}" for path, f in costs["paths"].items()
        )
        out.print(f"{spent}; saved USD {costs['saved_usd']}")
    keeper = document["keeper"]
    if keeper is not None:
        for line in describe_state(keeper):
            out.print(line, markup=False)
        for line in describe_problems(keeper):
            out.print(line, markup=False, style="yellow")
