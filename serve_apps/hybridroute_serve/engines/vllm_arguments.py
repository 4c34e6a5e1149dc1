"""The arguments of vLLM's server, read by vLLM's own parser.

`check_arguments` is for whoever reads a route where vLLM may not be installed; it runs the parser in a process of its
own, because importing vLLM takes seconds, hundreds of megabytes, and hold of logging. Used by the engine and, before
anything is started, by the command line.
"""

import argparse
import difflib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

__all__ = ["ArgumentProblem", "argument_words", "check_arguments", "is_installed", "parse_arguments"]

_FLAGS = {"true": True, "false": False}
_CHECK_SECONDS = 300.0
_NAMED = re.compile(r"^argument (?:-\w+/)*--(?P<name>[\w.-]+)[^:]*: (?P<what>.*)$", re.DOTALL)
_TOOL_PARSER, _AUTO_TOOLS = "tool-call-parser", "enable-auto-tool-choice"


class ArgumentProblem(Exception):  # noqa: N818 - raised and returned alike
    """What is wrong with one argument, or with them all."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}" if name else message)
        self.name = name
        """Without dashes; empty where vLLM does not say which."""
        self.message = message
        """What is wrong and what to do, without a full stop."""


def is_installed() -> bool:
    """Say whether vLLM can be imported here."""
    return importlib.util.find_spec("vllm") is not None


def check_arguments(arguments: Mapping[str, str]) -> ArgumentProblem | None:
    """Return what vLLM's parser says of further arguments; None when they are fine, or vLLM is not installed."""
    if not arguments or not is_installed():
        return None
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-W", "ignore", "-m", __name__],
        input=json.dumps(dict(arguments)),
        capture_output=True,
        text=True,
        timeout=_CHECK_SECONDS,
        check=False,
        env={**os.environ, "VLLM_LOGGING_LEVEL": "ERROR"},
    )
    try:
        said = json.loads(done.stdout.strip().rpartition("\n")[2])
    except ValueError:
        return ArgumentProblem(
            "", f"could not be checked, because vLLM does not start: {_last_line(done.stderr)}"
        )
    return None if said is None else ArgumentProblem(said["name"], said["message"])


def parse_arguments(own: Sequence[str], arguments: Mapping[str, str]) -> argparse.Namespace:
    """Return vLLM's parsed command line: our own words, then the route's further arguments.

    Raises `ArgumentProblem`. A parser of tool calls switches the model's own choice of tools on.
    """
    from vllm.engine.arg_utils import AsyncEngineArgs  # noqa: PLC0415 - optional, and slow to import
    from vllm.entrypoints.launchers.cli_args import (  # noqa: PLC0415
        make_arg_parser,
        validate_parsed_serve_args,
    )

    parser = make_arg_parser(_make_parser())
    if _TOOL_PARSER in arguments:
        arguments = {_AUTO_TOOLS: "true", **arguments}
    words = [word for name, value in arguments.items() for word in argument_words(parser, name, value)]
    parsed: argparse.Namespace = parser.parse_args([*own, *words])
    try:
        validate_parsed_serve_args(parsed)
        AsyncEngineArgs.from_cli_args(parsed)
    except (TypeError, ValueError, KeyError) as error:
        raise ArgumentProblem("", _first_line(str(error))) from None
    return parsed


def _make_parser() -> Any:
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    class Parser(FlexibleArgumentParser):  # type: ignore[misc]
        def error(self, message: str) -> NoReturn:
            named = _NAMED.match(message)
            if named is not None:
                raise ArgumentProblem(named["name"], _first_line(named["what"]))
            raise ArgumentProblem("", _first_line(message))

    return Parser(prog="vllm")


def argument_words(parser: argparse.ArgumentParser, name: str, value: str) -> list[str]:
    """Return the words of the command line that set one argument. Raises `ArgumentProblem`."""
    known: dict[str, argparse.Action] = parser._option_string_actions
    action = known.get(f"--{name}")
    if action is None:
        near = difflib.get_close_matches(name, [word.removeprefix("--") for word in known], n=1)
        raise ArgumentProblem(
            name, "is no argument of vllm serve" + (f"; is {near[0]} meant?" if near else "")
        )
    if action.nargs == 0:
        if value not in _FLAGS:
            raise ArgumentProblem(name, 'is a flag: write "true" or "false"')
        if _FLAGS[value]:
            return [f"--{name}"]
        return [f"--no-{name}"] if f"--no-{name}" in known else []
    if action.nargs in ("+", "*"):
        return [f"--{name}", *value.split()]
    return [f"--{name}={value}"]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")


def _last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


def _main() -> None:
    problem = None
    try:
        # Any folder will do: where the hub may not be asked, vLLM looks for its default model's files at once.
        parse_arguments([f"--model={os.curdir}"], json.load(sys.stdin))
    except ArgumentProblem as found:
        problem = {"name": found.name, "message": found.message}
    sys.stdout.write("\n" + json.dumps(problem) + "\n")


if __name__ == "__main__":
    _main()
