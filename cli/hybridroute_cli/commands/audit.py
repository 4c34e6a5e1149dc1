"""`hybridroute audit export`: the audited requests of a route, to be labelled by people."""

import asyncio
import csv
import io
from pathlib import Path
from typing import Annotated, Any

import typer

from hybridroute_cli.gateway import find_running, open_gateway
from hybridroute_cli.output import command_errors, console, print_json

__all__ = ["audit"]

COLUMNS = (
    "request_id",
    "received_at",
    "prompt",
    "confidence",
    "propensity",
    "served_by",
    "copied_to",
    "outcome",
    "disagreement",
    "artifact",
)

audit = typer.Typer(name="audit", help="Requests that both paths answered.", no_args_is_help=True)


@audit.callback()
def _group() -> None:
    """Keep `export` a word of its own, although it is the only one."""


@audit.command()
def export(
    route: Annotated[str | None, typer.Option(help="Name of the route; not needed when one is up.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the latest audits.")] = 10_000,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="CSV to write; standard output by default.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the audits as JSON.")] = False,
) -> None:
    """Write the audited requests as a CSV: add both outcomes to each row, and give it to `hybridroute certify`.

    Prompts are there where `spec.records.promptText` keeps them; elsewhere the ids find them in your own logs.
    """
    with command_errors(as_json=as_json):
        audits = asyncio.run(_ask(route, limit))
        if as_json:
            print_json({"audits": audits})
            return
        text = _write_csv(audits)
        if output is None:
            typer.echo(text, nl=False)
            return
        output.write_text(text, newline="")
    nameless = sum(row["prompt"] is None for row in audits)
    left_out = f"; {nameless} without a prompt, which spec.records.promptText keeps" if nameless else ""
    console().print(f"{len(audits)} audited requests in {output}{left_out}", markup=False)


def _write_csv(audits: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(audits)
    return text.getvalue()


async def _ask(route: str | None, limit: int) -> list[dict[str, Any]]:
    directory, run = find_running(route)
    async with open_gateway(directory, run) as gateway:
        document = await gateway.ask_keeper(f"/audits?limit={limit}")
    audits: list[dict[str, Any]] = document["audits"]
    return audits
