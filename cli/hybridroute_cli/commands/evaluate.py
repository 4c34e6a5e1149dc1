"""`hybridroute evaluate routing|scope|drift`: what calibration is worth on your own data."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_cli.lab import Embedding, lab_errors, need_lab
from hybridroute_cli.output import CommandError, command_errors, console, print_json
from hybridroute_cli.progress import progress_bar

__all__ = ["evaluate"]

evaluate = typer.Typer(
    name="evaluate", help="Measure routing, scope or drift on your own data.", no_args_is_help=True
)

Plots = Annotated[Path | None, typer.Option(help="Folder for plots.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
TextColumn = Annotated[str, typer.Option(help="Column with the text.")]
LabelColumn = Annotated[str, typer.Option(help="Column with the label.")]


@evaluate.command()
def routing(
    data: Annotated[list[Path], typer.Option("--data", help="CSV or JSONL files, or a folder of them.")],
    weak_column: Annotated[str, typer.Option(help="Column with the small model's outcome, 0 to 1.")],
    strong_column: Annotated[str, typer.Option(help="Column with the large model's outcome, 0 to 1.")],
    prompt_column: Annotated[str, typer.Option(help="Column with the prompt.")] = "prompt",
    category_column: Annotated[
        str | None,
        typer.Option(help="Column for the category baseline; the file by default. Never a feature."),
    ] = None,
    labels: Annotated[int, typer.Option(min=100, help="Labelled rows to learn from.")] = 1_500,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Random splits.")] = 5,
    embedding: Embedding = EmbeddingName.STATIC,
    plots: Plots = None,
    as_json: AsJson = False,
) -> None:
    """Learn from some labels, judge on all other rows, beside baselines on the same splits."""
    with command_errors(as_json=as_json):
        need_lab(plots=plots is not None)
        from hybridroute_lab.evaluation.routing import evaluate_routing  # noqa: PLC0415 - loads scipy
        from hybridroute_lab.tables import read_outcomes  # noqa: PLC0415
        from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415

        with lab_errors(), progress_bar() as progress:
            outcomes = read_outcomes(
                data,
                prompt_column=prompt_column,
                weak_column=weak_column,
                strong_column=strong_column,
                category_column=category_column,
            )
            evaluation = evaluate_routing(
                outcomes,
                load_embedder(embedding),
                labels=labels,
                seeds=seeds,
                clock=time.thread_time,
                progress=progress,
            )
        if plots is not None:
            from hybridroute_lab.evaluation.plots import plot_routing  # noqa: PLC0415 - loads matplotlib

            plot_routing(evaluation, plots)
    _show(evaluation.report, as_json=as_json)


@evaluate.command()
def scope(
    train: Annotated[list[Path], typer.Option("--train", help="In-scope rows to learn from.")],
    inside: Annotated[list[Path], typer.Option("--in", help="Other in-scope rows.")],
    outside: Annotated[list[Path], typer.Option("--out", help="Out-of-scope rows.")],
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    embedding: Embedding = EmbeddingName.STATIC,
    plots: Plots = None,
    as_json: AsJson = False,
) -> None:
    """Fit a scope gate, and see what it turns away."""
    with command_errors(as_json=as_json):
        need_lab(plots=plots is not None)
        from hybridroute_lab.evaluation.scope import evaluate_scope  # noqa: PLC0415 - loads scipy
        from hybridroute_lab.tables import read_labelled_texts  # noqa: PLC0415
        from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415

        with lab_errors(), progress_bar() as progress:
            known, in_scope, out_of_scope = (
                read_labelled_texts(paths, text_column=text_column, label_column=label_column)
                for paths in (train, inside, outside)
            )
            evaluation = evaluate_scope(
                known,
                in_scope,
                out_of_scope,
                load_embedder(embedding),
                clock=time.thread_time,
                progress=progress,
            )
        if plots is not None:
            from hybridroute_lab.evaluation.plots import plot_scope  # noqa: PLC0415 - loads matplotlib

            plot_scope(evaluation, plots)
    _show(evaluation.report, as_json=as_json)


@evaluate.command()
def drift(
    base: Annotated[list[Path], typer.Option("--base", help="Rows of the traffic as it was.")],
    shift: Annotated[list[Path], typer.Option("--shift", help="Rows of the traffic to be noticed.")],
    rates: Annotated[
        str, typer.Option(help="Shares of new traffic, separated by commas.")
    ] = "0,0.05,0.2,0.5",
    session_length: Annotated[
        str, typer.Option(help="Requests of one session, separated by commas.")
    ] = "1,6",
    requests: Annotated[int, typer.Option(min=1_000, help="Simulated undrifted requests.")] = 10_000_000,
    text_column: TextColumn = "text",
    label_column: LabelColumn = "label",
    embedding: Embedding = EmbeddingName.STATIC,
    plots: Plots = None,
    as_json: AsJson = False,
) -> None:
    """Replay sessions: how soon drift is noticed, and how often for nothing."""
    with command_errors(as_json=as_json):
        need_lab(plots=plots is not None)
        from hybridroute_lab.evaluation.drift import DriftPlan, evaluate_drift  # noqa: PLC0415 - loads scipy
        from hybridroute_lab.tables import read_labelled_texts  # noqa: PLC0415
        from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415

        shares = _numbers("--rates", rates)
        lengths = [int(number) for number in _numbers("--session-length", session_length)]
        if not all(0.0 <= share <= 1.0 for share in shares) or not all(length >= 1 for length in lengths):
            raise CommandError("--rates lie between 0 and 1, and --session-length is at least 1")
        with lab_errors(), progress_bar() as progress:
            before, after = (
                read_labelled_texts(paths, text_column=text_column, label_column=label_column)
                for paths in (base, shift)
            )
            report = evaluate_drift(
                before,
                after,
                load_embedder(embedding),
                rates=shares,
                session_lengths=lengths,
                plan=DriftPlan(undrifted_requests=requests),
                progress=progress,
            )
        if plots is not None:
            from hybridroute_lab.evaluation.plots import plot_drift  # noqa: PLC0415 - loads matplotlib

            plot_drift(report, plots)
    _show(report, as_json=as_json)


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise CommandError(f"{option} takes numbers separated by commas, not {text!r}") from error


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(report)
        return
    out = console()
    for name, value in report.items():
        if isinstance(value, list):
            for row in value:
                out.print(f"{name}: " + ", ".join(f"{key} {_short(entry)}" for key, entry in row.items()))
        elif isinstance(value, dict) and value and all(isinstance(entry, dict) for entry in value.values()):
            for key, entry in value.items():
                out.print(f"{name}, {key}: {_short(entry)}")
        else:
            out.print(f"{name}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"mean", "std"}:
        return f"{value['mean']:g} ± {value['std']:g}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(entry)}" for key, entry in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
