"""Entry point of `kubectl hybridroute`: the commands that are about a cluster, with kubectl's way of naming it."""

import typer

from hybridroute_cli.commands.ask import ask
from hybridroute_cli.commands.costs import costs
from hybridroute_cli.commands.explain import explain
from hybridroute_cli.commands.render import render
from hybridroute_cli.commands.status import status
from hybridroute_cli.commands.validate import validate
from hybridroute_cli.places import Surroundings

__all__ = ["app"]

app = typer.Typer(
    name="kubectl hybridroute",
    help="HybridRoutes of a cluster: state, costs, one request explained, one question asked.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
for _command in (status, costs, explain, ask, render, validate):
    app.command()(_command)


@app.callback()
def _in_cluster(call: typer.Context) -> None:
    call.obj = Surroundings.CLUSTER


if __name__ == "__main__":
    app()
