"""`hybridroute ask`: one question to a route, with the reason for its path."""

import asyncio
from http import HTTPStatus
from typing import Annotated

import typer

from hybridroute_api.vocabulary import Header
from hybridroute_cli.gateway import API_KEY_VARIABLE, Answer
from hybridroute_cli.output import command_errors, console, print_json
from hybridroute_cli.places import Context, Namespace, Place, RouteName, open_route, parse_place

__all__ = ["ask"]


def ask(
    call: typer.Context,
    prompt: Annotated[str, typer.Argument(help="The question.")],
    model: Annotated[
        str, typer.Option(help="hybridroute lets the route decide; slm and llm force a path.")
    ] = "hybridroute",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Cap on the answer's tokens.")] = None,
    route: RouteName = None,
    namespace: Namespace = None,
    context: Context = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print answer and headers as JSON.")] = False,
) -> None:
    """Ask the running route one question."""
    with command_errors(as_json=as_json):
        place = parse_place(call, route, namespace, context)
        answer = asyncio.run(_ask(prompt, model, max_tokens, place))
    told = {name: answer.headers[name] for name in Header if name in answer.headers}
    if as_json:
        print_json({"status": answer.status, "headers": told, "body": answer.body})
    else:
        out = console()
        out.print(answer.text, markup=False)
        out.print(
            " · ".join(f"{name.removeprefix('x-hybridroute-')} {value}" for name, value in told.items()),
            style="dim",
        )
        if answer.status == HTTPStatus.UNAUTHORIZED:
            out.print(
                f"this route needs an API key: put it into the variable {API_KEY_VARIABLE}", style="yellow"
            )
    if answer.status != HTTPStatus.OK:
        raise typer.Exit(1)


async def _ask(prompt: str, model: str, max_tokens: int | None, place: Place) -> Answer:
    async with open_route(place, asks_keeper=False) as gateway:
        return await gateway.ask(prompt, model=model, max_tokens=max_tokens)
