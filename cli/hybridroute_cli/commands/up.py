"""`hybridroute up` and `down`: one route on this machine, from its YAML file."""

import asyncio
import os
import signal
import time
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hybridroute_api.model_uris import parse_hub
from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_api.v1alpha1.slm import BUNDLED_MODELS, Engine, Slm
from hybridroute_api.vocabulary import Header, Mode, PathName
from hybridroute_cli.commands.validate import print_problems
from hybridroute_cli.documents import check_engine, cluster_only_fields, load_route, one_machine_refusals
from hybridroute_cli.gateway import API_KEY_VARIABLE, Gateway, find_running, open_gateway
from hybridroute_cli.instance import (
    OPEN_PORTS_WARNING,
    end_instance,
    is_alive,
    stand_in_url,
    start_instance,
    update_instance,
)
from hybridroute_cli.output import CommandError, command_errors, console, print_json
from hybridroute_cli.problems import InvalidDocumentError
from hybridroute_cli.processes import find_processes
from hybridroute_cli.rundir import Run, RunDirectory, home_directory
from hybridroute_cli.upstreams import MissingCredentialsError, UpstreamSources, find_hub_token, find_upstreams
from hybridroute_serve.auth.clients import ClientsFileError, read_clients

__all__ = ["down", "up"]

_START_SECONDS: Final = {Engine.LLAMACPP: 180.0, Engine.VLLM: 1800.0}
"""Until every path has answered; a model for vLLM may have to be downloaded, loaded and compiled."""
_POLL_SECONDS = 0.3
_KEY_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def up(
    file: Annotated[Path, typer.Option("-f", "--file", help="The route's YAML file.")],
    port: Annotated[
        int, typer.Option(help="Port of the OpenAI-compatible endpoint on 127.0.0.1.", min=1, max=65535)
    ] = 8000,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when the route serves.")] = False,
    strict: Annotated[bool, typer.Option(help="Refuse fields that mean nothing on one machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the running instance as JSON.")] = False,
) -> None:
    """Serve a route on this machine, or bring a running one up to date with its file."""
    out = console()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        route = load_route(file)
    except InvalidDocumentError as error:
        print_problems(error.problems, as_json=as_json)
        raise typer.Exit(1) from error
    problems = check_engine(route, file)
    if problems:
        print_problems(problems, as_json=as_json)
        raise typer.Exit(1)
    with command_errors(as_json=as_json):
        _refuse_cluster_fields(route, strict=strict, quiet=as_json)
        refusals = one_machine_refusals(route)
        if refusals:
            raise CommandError("; ".join(refusals))
        route = _with_absolute_paths(route, file)
        directory = RunDirectory(home_directory(), route.metadata.name)
        run = directory.read_run()
        if run is not None and not is_alive(run):
            if not as_json:
                out.print(f"[yellow]the last instance of route {run.route} died; cleaning up after it[/]")
            end_instance(directory, run, say=lambda _: None)
            run = None
        if run is not None:
            _update(directory, run, route, file, port=port, as_json=as_json)
            return
        sources = _sources(route, file, directory, port)
        run = start_instance(directory, route, sources, port=port, environ=os.environ)
        try:
            asyncio.run(_wait_until_serving(directory, run, route, quiet=as_json))
        except BaseException:
            end_instance(directory, run, say=lambda _: None)
            raise
    if as_json:
        print_json(_describe(run, route))
    else:
        _print_welcome(run, needs_key=route.spec.auth is not None)
    if not detach:
        _stay(directory, run)


def down(
    route: Annotated[str | None, typer.Option(help="Name of the route; not needed when one is up.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was stopped as JSON.")] = False,
) -> None:
    """Stop a route: no process and no port is left; its records stay."""
    home = home_directory()
    names = sorted(path.parent.name for path in home.glob("*/run.json"))
    with command_errors(as_json=as_json):
        if route is not None and not (home / route).is_dir():
            up_now = f"up: {', '.join(names)}" if names else "no route is up"
            raise CommandError(f"no route {route} was ever up here; {up_now}")
        if not names or (route is not None and route not in names):
            if as_json:
                print_json({"stopped": []})
            else:
                console().print(f"nothing to stop: {f'route {route} is not' if route else 'no route is'} up")
            return
        directory, run = find_running(route)
        end_instance(directory, run, say=(lambda _: None) if as_json else console().print)
    if as_json:
        print_json({"stopped": [run.route]})
    else:
        console().print(
            f"route {run.route} is down; its records stay in {directory.state_dir}: hybridroute costs, explain"
        )


def _interrupt(*_: object) -> None:
    """End like Ctrl-C: what this command started must not outlive it by accident."""
    raise KeyboardInterrupt


def _refuse_cluster_fields(route: HybridRoute, *, strict: bool, quiet: bool) -> None:
    fields = cluster_only_fields(route)
    if not fields:
        return
    listed = ", ".join(fields)
    if strict:
        raise CommandError(
            f"these fields mean nothing on one machine: {listed}; remove them or drop --strict"
        )
    if not quiet:
        console().print(f"[yellow]on one machine these fields mean nothing:[/] {listed}")


def _with_absolute_paths(route: HybridRoute, file: Path) -> HybridRoute:
    """Replicas run elsewhere: what is relative to the route's file must not be."""
    spec, slm = route.spec, route.spec.slm
    uri = _local_uri(file, slm, slm.model.uri, "spec.slm.model.uri")
    adapters = {
        name: _local_uri(file, slm, adapter, f"spec.slm.adapters.{name}")
        for name, adapter in slm.adapters.items()
    }
    model = slm.model.model_copy(update={"uri": uri})
    changed = slm.model_copy(update={"model": model, "adapters": adapters})
    spec = spec.model_copy(update={"slm": changed})
    if spec.auth is not None and spec.auth.api_keys_file is not None:
        keys_file = _existing(file, spec.auth.api_keys_file, "spec.auth.apiKeysFile")
        try:
            read_clients(keys_file)
        except ClientsFileError as error:
            raise CommandError(f"spec.auth.apiKeysFile: {error}") from None
        auth = spec.auth.model_copy(update={"api_keys_file": keys_file})
        spec = spec.model_copy(update={"auth": auth})
    if spec.routing.policy is not None and spec.routing.policy.file is not None:
        policy = spec.routing.policy.model_copy(
            update={"file": _usable_policy(file, spec.routing.policy.file)}
        )
        spec = spec.model_copy(update={"routing": spec.routing.model_copy(update={"policy": policy})})
    return route.model_copy(update={"spec": spec})


def _usable_policy(file: Path, name: str) -> str:
    """Return the absolute path of a calibrated policy that this release can score with."""
    from hybridroute_serve.routing.artifact.errors import ArtifactError  # noqa: PLC0415 - loads numpy
    from hybridroute_serve.routing.artifact.scorer import check_artifact  # noqa: PLC0415
    from hybridroute_serve.routing.embeddings import read_embedding_digest  # noqa: PLC0415

    field = "spec.routing.policy.file"
    path = _existing(file, name, field)
    try:
        check_artifact(Path(path).read_bytes(), read_embedding_digest)
    except OSError as error:
        raise CommandError(f"{field}: {path} cannot be read: {error.strerror}") from None
    except ArtifactError as error:
        raise CommandError(f"{field}: {path}: {error}") from None
    return path


def _local_uri(file: Path, slm: Slm, uri: str, field: str) -> str:
    """Return the URI with an absolute path, if it is a path."""
    if uri in BUNDLED_MODELS or parse_hub(uri) is not None:
        return uri
    if slm.engine is Engine.LLAMACPP:
        return _existing(file, uri, field)
    folder = (file.parent / uri).resolve()
    if not folder.is_dir():
        raise CommandError(f"{field}: {folder} is not a folder")
    return str(folder)


def _existing(file: Path, name: str, field: str) -> str:
    path = (file.parent / name).resolve()
    if not path.is_file():
        raise CommandError(f"{field}: {path} is not a file")
    return str(path)


def _sources(route: HybridRoute, file: Path, directory: RunDirectory, port: int) -> UpstreamSources:
    try:
        sources = find_upstreams(
            route,
            route_file=file.resolve(),
            secrets_dir=directory.secrets_dir,
            environ=os.environ,
            stand_in_url=stand_in_url(port),
        )
        hub_token = find_hub_token(route, os.environ)
        if hub_token is not None:
            sources.secrets[directory.hub_token_file] = hub_token
        return sources
    except MissingCredentialsError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"spec.llm.upstreams: cannot read {error.filename}: {error.strerror}") from error


def _update(
    directory: RunDirectory, run: Run, route: HybridRoute, file: Path, *, port: int, as_json: bool
) -> None:
    if port not in (run.ports.http, 8000):
        raise CommandError(
            f"route {run.route} is up on port {run.ports.http}; to move it: hybridroute down, then up --port {port}"
        )
    change = update_instance(directory, run, route, _sources(route, file, directory, run.ports.http))
    if as_json:
        changed = {"policy": change.policy, "deployment": change.deployment}
        print_json(_describe(run, route) | {"changed": changed})
        return
    if not (change.policy or change.deployment):
        console().print(f"route {run.route} is already up at {run.url}, and nothing in {file} changed")
        return
    what = [
        *(["live policy (in force within 10 s)"] if change.policy else []),
        *(["deployment (replicas follow)"] if change.deployment else []),
    ]
    console().print(f"route {run.route} is up at {run.url}; changed: {', '.join(what)}")


async def _wait_until_serving(directory: RunDirectory, run: Run, route: HybridRoute, *, quiet: bool) -> None:
    """Wait until each path that the mode allows has answered a real completion."""
    # What is forced to a path is held for one that is just coming; only what the router knows as ready is chosen.
    paths = _allowed_paths(route)
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    patience_seconds = _START_SECONDS[route.spec.slm.engine]
    deadline = time.monotonic() + patience_seconds
    with Progress(*columns, console=console(), transient=True, disable=quiet) as progress:
        task = progress.add_task("starting Ray", total=None)
        async with open_gateway(directory, run) as gateway:
            while True:
                phase = directory.read_phase()
                if phase is not None and phase.name == "failed":
                    raise CommandError(
                        f"the route failed to start: {phase.detail}; log: {directory.log_file}"
                    )
                if not is_alive(run):
                    raise CommandError(f"the supervisor died; its log says why: {directory.log_file}")
                if time.monotonic() > deadline:
                    detail = phase.detail or phase.applications if phase else ""
                    raise CommandError(
                        f"not serving after {patience_seconds:.0f} s ({detail}); log: {directory.log_file}"
                    )
                if phase is not None and phase.applications:
                    running = sum(status == "RUNNING" for status in phase.applications.values())
                    progress.update(task, description=f"{running}/{len(phase.applications)} applications run")
                if phase is not None and phase.detail and phase.name == "deploying":
                    raise CommandError(
                        f"an application failed to start: {phase.detail}; log: {directory.log_file}"
                    )
                if phase is not None and phase.name == "serving" and paths <= await gateway.ready_paths():
                    break
                await asyncio.sleep(_POLL_SECONDS)
            for path in sorted(paths):
                progress.update(task, description=f"first answer of the {path} path")
                await _prove(gateway, path, deadline)


def _allowed_paths(route: HybridRoute) -> frozenset[PathName]:
    forced = {Mode.LOCAL_ONLY: frozenset({PathName.SLM}), Mode.LLM_ONLY: frozenset({PathName.LLM})}
    return forced.get(route.spec.mode, frozenset(PathName))


async def _prove(gateway: Gateway, path: PathName, deadline: float) -> None:
    while True:
        answer = await gateway.ask("Say hello.", model=path, max_tokens=4)
        if answer.status == 200:
            return
        # The router may know of a replica half a second later than Serve does; anything else is a real failure.
        if answer.status != 503 or time.monotonic() > deadline:
            advice = (
                f"; `up` asks with the key in {API_KEY_VARIABLE}" if answer.status in _KEY_REFUSED else ""
            )
            raise CommandError(f"the {path} path does not answer: {answer.status} {answer.text}{advice}")
        await asyncio.sleep(_POLL_SECONDS)


def _describe(run: Run, route: HybridRoute) -> dict[str, Any]:
    ports = run.ports
    return {
        "route": run.route,
        "url": run.url,
        "stand_in": run.stand_in,
        "pid": run.supervisor_pid,
        "ignored_fields": cluster_only_fields(route),
        "open_ports": {"haproxy_metrics": ports.haproxy_metrics, "haproxy_stats": ports.haproxy_stats},
    }


def _print_welcome(run: Run, *, needs_key: bool) -> None:
    out = console()
    out.print(f"[bold green]route {run.route} serves at {run.url}/v1[/]")
    if run.stand_in:
        out.print(
            "the LLM path is a [bold]local stand-in[/], not a real model: set OPENAI_API_KEY and run `up` again"
        )
    out.print(
        OPEN_PORTS_WARNING.format(metrics=run.ports.haproxy_metrics, stats=run.ports.haproxy_stats),
        style="dim",
    )
    out.print("each path was asked once to see that it serves; records and costs have that too", style="dim")
    out.print("try:")
    body = """{"model": "hybridroute", "messages": [{"role": "user", "content": "How do I freeze my debit card?"}]}"""
    key = f' -H "authorization: Bearer ${API_KEY_VARIABLE}"' if needs_key else ""
    out.print(
        f"  curl -si {run.url}/v1/chat/completions{key} -H 'content-type: application/json' -d '{body}'",
        markup=False,
    )
    out.print(
        f"then: hybridroute explain <{Header.REQUEST_ID}> · hybridroute costs · hybridroute down",
        markup=False,
    )


def _stay(directory: RunDirectory, run: Run) -> None:
    console().print("Ctrl-C stops the route")
    try:
        while is_alive(run):
            time.sleep(1.0)
        console().print(f"[red]the route ended; log: {directory.log_file}[/]")
    except KeyboardInterrupt:
        console().print("")
    finally:
        if find_processes(run.run_id) or directory.read_run() is not None:
            end_instance(directory, run, say=console().print)
