"""What commands print: tables for people, JSON for programs, errors on stderr with exit status 1."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from rich.console import Console

__all__ = ["CommandError", "command_errors", "console", "print_json", "stop"]


class CommandError(Exception):
    """A command cannot go on. The message says what happened and what to do."""


def console() -> Console:
    """A console on standard output; plain when that is not a terminal."""
    return Console(highlight=False, soft_wrap=True)


def print_json(document: Any) -> None:
    """Print a document for programs: nothing else goes to standard output then."""
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def stop(message: str, *, as_json: bool = False) -> NoReturn:
    """Print an error, as `{"error": …}` on standard output for programs, and end the command with status 1."""
    if as_json:
        print_json({"error": message})
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]error:[/] {_escape(message)}")
    raise typer.Exit(1)


@contextmanager
def command_errors(*, as_json: bool = False) -> Iterator[None]:
    """Turn a `CommandError` into its message and status 1."""
    try:
        yield
    except CommandError as error:
        stop(str(error), as_json=as_json)


def _escape(message: str) -> str:
    return message.replace("[", r"\[")
