"""`hybridroute explain`: one line that says why a request went where it went and what it cost."""

import asyncio
from typing import Annotated, Any
from urllib.parse import quote

import typer

from hybridroute_cli.gateway import find_running, open_gateway
from hybridroute_cli.output import CommandError, command_errors, console, print_json

__all__ = ["explain"]

_RECORD_SECONDS = 1.0
"""A record is durable within 100 ms of a request's end; an id asked for at once may need a second look."""


def explain(
    request_id: Annotated[str, typer.Argument(help="The x-hybridroute-request-id of an answer.")],
    route: Annotated[str | None, typer.Option(help="Name of the route; not needed when one is up.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Explain one request in one line."""
    with command_errors(as_json=as_json):
        document = asyncio.run(_find(request_id, route))
        if document is None:
            raise CommandError(
                f"no record of {request_id}: it may be mistyped, older than spec.records.maxAge, or of another route"
            )
    if as_json:
        print_json(document)
    else:
        console().print(document["explanation"], markup=False)


async def _find(request_id: str, route: str | None) -> dict[str, Any] | None:
    directory, run = find_running(route)
    async with open_gateway(directory, run) as gateway:
        path = f"/records/{quote(request_id, safe='')}"
        document: dict[str, Any] | None = await gateway.ask_keeper(path)
        if document is None:
            await asyncio.sleep(_RECORD_SECONDS)
            document = await gateway.ask_keeper(path)
        return document
