"""`hybridroute costs`: what each path cost, and what the large model alone would have."""

import asyncio
from typing import Annotated, Any

import typer
from rich.table import Table

from hybridroute_cli.gateway import find_running
from hybridroute_cli.left_records import find_left_records
from hybridroute_cli.output import command_errors, console, print_json
from hybridroute_cli.places import Context, Namespace, Place, RouteName, open_route, parse_place

__all__ = ["costs"]


def costs(
    call: typer.Context,
    route: RouteName = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the account as JSON.")] = False,
) -> None:
    """Show tokens and dollars of each path, also of a route that is down."""
    with command_errors(as_json=as_json):
        place = parse_place(call, route, namespace, context)
        left = find_left_records(route) if place.cluster is None else None
        account, stand_in = asyncio.run(_ask(place)) if left is None else (left.read_costs(), False)
    if as_json:
        print_json(account)
        return
    table = Table("path", "requests", "prompt tokens", "completion tokens", "USD", "idle USD")
    for path, figures in account["paths"].items():
        table.add_row(
            path,
            *(f"{figures[key]:,}" for key in ("requests", "prompt_tokens", "completion_tokens")),
            figures["usd"],
            figures.get("idle_usd", "-"),
        )
    out = console()
    if left is not None:
        out.print(f"route {left.route} is not up: from the records that it left")
    out.print(table)
    if stand_in:
        out.print("the LLM path is a local stand-in: its dollars are list prices that nobody bills")
    out.print(f"the LLM alone would have cost USD {account['all_llm_usd']}; saved USD {account['saved_usd']}")


async def _ask(place: Place) -> tuple[dict[str, Any], bool]:
    """Return the account, and whether the LLM path is a stand-in, which only one machine has."""
    stand_in = place.cluster is None and find_running(place.route)[1].stand_in
    async with open_route(place) as gateway:
        account: dict[str, Any] = await gateway.ask_keeper("/costs")
        return account, stand_in
