"""`hybridroute report`: what recorded requests would have cost at other risks, and where the route is today."""

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from hybridroute_cli.gateway import find_running, open_gateway
from hybridroute_cli.lab import need_lab
from hybridroute_cli.output import CommandError, command_errors, console, print_json

__all__ = ["report"]


def report(
    route: Annotated[str | None, typer.Option(help="Name of the route; not needed when one is up.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many of the latest requests.")] = 10_000,
    plot: Annotated[Path | None, typer.Option(help="Also draw the curve, to this PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the curve as JSON.")] = False,
) -> None:
    """Show the cost-quality curve of the calibrated policy over the latest requests, with today's point."""
    with command_errors(as_json=as_json):
        if plot is not None:
            need_lab(plots=True)
        document = asyncio.run(_ask(route, limit))
        if plot is not None:
            _draw(document, plot)
    if as_json:
        print_json(document)
        return
    out = console()
    out.print(
        f"policy {document['artifact'][:12]}: {document['requests']} requests that it scored, "
        f"{document['not_scored']} others left out"
    )
    if document["today"] is None:
        out.print(f"no curve: {document['note']}", markup=False)
        return
    table = Table("maxRisk", "threshold", "kept", "joint regret", "at most", "LLM USD")
    for point in document["points"]:
        table.add_row(*_cells(point))
    table.add_section()
    table.add_row(*_cells(document["today"] | {"max_risk": "today"}))
    out.print(table)
    out.print(
        "kept and LLM dollars: of these requests, an escalated one at their mean price; joint regret: of the "
        f"certification rows, with its bound at delta {document['delta']:g}; today: what was served, whatever the gate"
    )


def _draw(document: dict[str, Any], file: Path) -> None:
    from hybridroute_lab.evaluation.plots import plot_report  # noqa: PLC0415 - loads matplotlib

    if document["today"] is None:
        raise CommandError(f"no curve to draw: {document['note']}")
    try:
        plot_report(document, file)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error


def _cells(point: dict[str, Any]) -> tuple[str, ...]:
    threshold, regret, bound = point["threshold"], point["regret"], point["regret_at_most"]
    return (
        str(point["max_risk"]),
        "keeps nothing" if threshold is None else f"{threshold:.4f}",
        f"{100 * point['kept_share']:.1f} %",
        "-" if regret is None else f"{regret:.4f}",
        "-" if bound is None else f"{bound:.4f}",
        point["llm_usd"] or "-",
    )


async def _ask(route: str | None, limit: int) -> dict[str, Any]:
    directory, run = find_running(route)
    async with open_gateway(directory, run) as gateway:
        document: dict[str, Any] | None = await gateway.ask_keeper(f"/report?limit={limit}")
    if document is None:
        raise CommandError(
            f"route {run.route} has no calibrated policy in force: give it one under spec.routing.policy"
        )
    return document
