"""Entry point of the `hybridroute` command: names the commands and nothing else."""

import typer

from hybridroute_cli.commands.ask import ask
from hybridroute_cli.commands.audit import audit
from hybridroute_cli.commands.calibrate import calibrate, certify
from hybridroute_cli.commands.costs import costs
from hybridroute_cli.commands.evaluate import evaluate
from hybridroute_cli.commands.explain import explain
from hybridroute_cli.commands.render import render
from hybridroute_cli.commands.replay import replay
from hybridroute_cli.commands.report import report
from hybridroute_cli.commands.status import status
from hybridroute_cli.commands.up import down, up
from hybridroute_cli.commands.validate import validate

__all__ = ["app"]

app = typer.Typer(
    name="hybridroute",
    help="LLM quality without an LLM bill: a small model, a router and a remote LLM as one object.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
_COMMANDS = (validate, up, status, ask, replay, explain, costs, report, render, down, calibrate, certify)
for _command in _COMMANDS:
    app.command()(_command)
app.add_typer(evaluate)
app.add_typer(audit)


if __name__ == "__main__":
    app()
