"""`hybridroute validate`: says what is wrong with route files, and where."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from hybridroute_cli.documents import check_engine, load_route, one_machine_refusals
from hybridroute_cli.output import console, print_json
from hybridroute_cli.problems import InvalidDocumentError, Problem, printable

__all__ = ["print_problems", "validate"]


def validate(
    files: Annotated[list[Path], typer.Argument(help="Route files to check.", metavar="FILE...")],
    *,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")] = False,
) -> None:
    """Check route files without starting anything. Exit code 1 when a file has problems."""
    problems: list[Problem] = []
    results = []
    for file in files:
        try:
            route = load_route(file)
        except InvalidDocumentError as error:
            problems += error.problems
            results.append(_result(str(file), None, error.problems))
            continue
        found = check_engine(route, file)
        problems += found
        notes = one_machine_refusals(route)
        results.append(_result(str(file), route.metadata.name, found, notes))
        if not json and not found:
            message = f": HybridRoute {route.metadata.name} is valid"
            console().print(Text.assemble((printable(str(file)), "bold"), message))
            for note in notes:
                console().print(
                    Text(f"    but `up` on one machine will refuse it: {printable(note)}", style="dim")
                )
    if json:
        print_json({"valid": not problems, "files": results})
    elif problems:
        print_problems(problems)
    if problems:
        raise typer.Exit(1)


def print_problems(problems: Sequence[Problem], *, as_json: bool = False) -> None:
    """Print the problems of one or more files: for people a line each with what the field means below it."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    if as_json:
        results = [_result(file, None, [p for p in problems if p.file == file]) for file in files]
        print_json({"valid": False, "files": results})
        return
    out = console()
    for problem in problems:
        path = Text(f" {printable(problem.path)}" if problem.path else "", style="cyan")
        out.print(
            Text.assemble((printable(problem.place), "bold"), ":", path, f" {printable(problem.message)}")
        )
        if problem.hint:
            out.print(Text(f"    {printable(problem.hint)}", style="dim"))
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    out.print(f"{count} in {printable(', '.join(files))}", markup=False)


def _result(
    file: str, route: str | None, problems: Sequence[Problem], notes: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "file": file,
        "valid": not problems,
        "route": route,
        "problems": [dataclasses.asdict(problem) for problem in problems],
        "one_machine": list(notes),
    }
