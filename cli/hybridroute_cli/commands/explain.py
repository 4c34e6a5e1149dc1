"""`hybridroute explain`: one line that says why a request went where it went and what it cost."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hybridroute_cli.left_records import find_left_records
from hybridroute_cli.output import CommandError, command_errors, console, print_json
from hybridroute_cli.places import Context, Namespace, Place, RouteName, open_route, parse_place

__all__ = ["explain"]

_RECORD_SECONDS = 1.0
"""A record is durable within a third of a second of a request's end; an id asked for at once may need a second look."""


def explain(
    call: typer.Context,
    request_id: Annotated[str, typer.Argument(help="The x-hybridroute-request-id of an answer.")],
    route: RouteName = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Explain one request in one line, also of a route that is down."""
    with command_errors(as_json=as_json):
        place = parse_place(call, route, namespace, context)
        left = find_left_records(route) if place.cluster is None else None
        document = asyncio.run(_find(request_id, place)) if left is None else left.read_request(request_id)
        if document is None:
            raise CommandError(
                f"no record of {request_id}: it may be mistyped, older than spec.records.maxAge, or of another route"
            )
    if as_json:
        print_json(document)
    else:
        console().print(document["explanation"], markup=False)


async def _find(request_id: str, place: Place) -> dict[str, Any] | None:
    async with open_route(place) as gateway:
        path = f"/records/{quote(request_id, safe='')}"
        document: dict[str, Any] | None = await gateway.ask_keeper(path)
        if document is None:
            await asyncio.sleep(_RECORD_SECONDS)
            document = await gateway.ask_keeper(path)
        return document
