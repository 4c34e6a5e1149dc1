"""`hybridroute render`: prints the Kubernetes objects that the operator would apply, without a cluster."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from hybridroute_cli.commands.validate import print_problems
from hybridroute_cli.documents import load_route
from hybridroute_cli.problems import InvalidDocumentError, Problem, format_location
from hybridroute_render.kubernetes.objects import render_objects, route_names
from hybridroute_render.kubernetes.problems import cluster_problems
from hybridroute_render.kubernetes.settings import ClusterSettings
from hybridroute_render.kubernetes.text import dump_yaml

__all__ = ["render"]


def render(
    file: Annotated[Path, typer.Option("-f", "--file", help="The route's YAML file.")],
    namespace: Annotated[
        str | None, typer.Option("-n", "--namespace", help="Namespace of a route whose file names none.")
    ] = None,
    image: Annotated[
        str, typer.Option(help="Image of the pods, where the route names none.")
    ] = "hybridroute/serve:0.1.0",
    pod_monitors: Annotated[
        bool, typer.Option(help="As in a cluster that knows PodMonitors, or in one that does not.")
    ] = True,
) -> None:
    """Print what the operator would apply for a route. Exit code 1 when a cluster cannot serve it."""
    try:
        route = load_route(file)
    except InvalidDocumentError as error:
        print_problems(error.problems)
        raise typer.Exit(1) from None
    problems = [
        Problem(str(file), 0, 0, format_location(problem.location), problem.message)
        for problem in cluster_problems(route)
    ]
    if problems:
        print_problems(problems)
        raise typer.Exit(1)
    if route.metadata.namespace is None and namespace is not None:
        metadata = route.metadata.model_copy(update={"namespace": namespace})
        route = route.model_copy(update={"metadata": metadata})
    settings = ClusterSettings(serve_image=image, pod_monitors=pod_monitors)
    for manifest in render_objects(route, settings):
        sys.stdout.write(f"---\n{dump_yaml(manifest)}")
    secret = route_names(route).internal
    sys.stdout.write(f"# The operator also makes, once, the Secret {secret} with random tokens.\n")
