"""`hybridroute calibrate` and `certify`: labels in, one routing artifact out."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from hybridroute_api.v1alpha1.routing import Routing
from hybridroute_api.v1alpha1.slm import BUNDLED_MODELS
from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_cli.documents import load_route
from hybridroute_cli.lab import Embedding, lab_errors, need_lab, usable_workers
from hybridroute_cli.output import CommandError, command_errors, console, print_json
from hybridroute_cli.problems import InvalidDocumentError
from hybridroute_cli.progress import progress_bar
from hybridroute_render.live import ResolvedUpstream, render_live_policy
from hybridroute_serve.engines.engine import EngineError
from hybridroute_serve.engines.models import find_model, hash_file
from hybridroute_serve.routing.artifact.validity import SYSTEM_PROMPT, WEIGHTS, digest_prompt, route_models

if TYPE_CHECKING:
    from hybridroute_serve.routing.artifact.file import ArtifactFile
    from hybridroute_serve.routing.artifact.margins import MarginTable
    from hybridroute_serve.routing.artifact.promise import PromiseTable

__all__ = ["calibrate", "certify"]

Data = Annotated[list[Path], typer.Option("--data", help="CSV or JSONL files, or a folder of them.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Where the artifact is written.")]
PromptColumn = Annotated[str, typer.Option(help="Column with the prompt.")]
WeakColumn = Annotated[str | None, typer.Option(help="Column with the small model's outcome, 0 to 1.")]
StrongColumn = Annotated[str | None, typer.Option(help="Column with the large model's outcome, 0 to 1.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="What the outcomes were made with, NAME=DIGEST; may be repeated."),
]
RouteFile = Annotated[
    Path | None,
    typer.Option("--route", help="The route's YAML file: the outcomes were made with the models it names."),
]
SystemPrompt = Annotated[
    Path | None,
    typer.Option("--system-prompt", help="Text file with the system prompt the outcomes were made with."),
]
MarginColumn = Annotated[
    str | None,
    typer.Option(help="Column with the small model's margin, 0 to 1 or empty: calibrates a cascade."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the artifact's header as JSON.")]


def calibrate(
    data: Data,
    output: Output,
    prompt_column: PromptColumn = "prompt",
    weak_column: WeakColumn = None,
    strong_column: StrongColumn = None,
    label_column: Annotated[
        str | None, typer.Option(help="Column that names what a prompt is about.")
    ] = None,
    margin_column: MarginColumn = None,
    margin_tokens: Annotated[
        int, typer.Option(min=1, max=256, help="Tokens of the answers that the margins were taken of.")
    ] = 16,
    certify_share: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of rows kept to certify with.")
    ] = 0.5,
    false_alarm: Annotated[
        float,
        typer.Option(min=0.0, max=0.5, help="Share of in-scope requests that the scope gate may turn away."),
    ] = 0.02,
    embedding: Embedding = EmbeddingName.STATIC,
    keep_texts: Annotated[
        bool, typer.Option(help="Store example texts in the artifact, to name the nearest one.")
    ] = False,
    model: Models = None,
    route: RouteFile = None,
    system_prompt: SystemPrompt = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Learn when the small model can be trusted from labelled prompts, and certify it.

    With both outcome columns the artifact carries a promise; with a label column alone it is a scope gate.
    """
    with command_errors(as_json=as_json):
        need_lab()
        from hybridroute_lab.calibrate import (  # noqa: PLC0415 - loads scipy and scikit-learn
            CalibrateOptions,
            calibrate_labels,
            calibrate_outcomes,
        )
        from hybridroute_lab.tables import read_labelled_texts, read_outcomes  # noqa: PLC0415
        from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415

        options = CalibrateOptions(
            seed=seed,
            certify_share=certify_share,
            target_false_alarm=false_alarm,
            keep_texts=keep_texts,
            models=_models(model, route, system_prompt),
            margin_tokens=margin_tokens,
            workers=usable_workers(),
        )
        if margin_column is not None and weak_column is None:
            raise CommandError("--margin-column needs --weak-column and --strong-column beside it")
        if (weak_column is None) != (strong_column is None):
            raise CommandError(
                "--weak-column and --strong-column belong together: a promise needs both outcomes"
            )
        if weak_column is None and label_column is None:
            raise CommandError(
                "give --weak-column and --strong-column for a promise, or --label-column for a scope gate"
            )
        today = datetime.now(UTC).date()
        with lab_errors(), progress_bar() as progress:
            embedder = load_embedder(embedding)
            if weak_column is not None and strong_column is not None:
                outcomes = read_outcomes(
                    data,
                    prompt_column=prompt_column,
                    weak_column=weak_column,
                    strong_column=strong_column,
                    label_column=label_column,
                    margin_column=margin_column,
                )
                artifact = calibrate_outcomes(outcomes, embedder, today, options, progress=progress)
            else:
                texts = read_labelled_texts(data, text_column=prompt_column, label_column=label_column or "")
                artifact = calibrate_labels(texts, embedder, today, options, progress=progress)
        _write(output, artifact)
    _show(output, artifact, as_json=as_json)
    if not as_json:
        _tell_left_out(artifact)


def certify(
    artifact: Annotated[Path, typer.Argument(help="The artifact to certify anew.")],
    labels: Annotated[
        list[Path], typer.Option("--labels", help="Fresh labelled rows, not those it learned from.")
    ],
    weak_column: Annotated[str, typer.Option(help="Column with the small model's outcome, 0 to 1.")],
    strong_column: Annotated[str, typer.Option(help="Column with the large model's outcome, 0 to 1.")],
    output: Output,
    prompt_column: PromptColumn = "prompt",
    margin_column: MarginColumn = None,
    model: Models = None,
    route: RouteFile = None,
    system_prompt: SystemPrompt = None,
    as_json: AsJson = False,
) -> None:
    """Certify an artifact on fresh labels: its scores stay, its promise is counted anew."""
    with command_errors(as_json=as_json):
        need_lab()
        from hybridroute_lab.calibrate import certify_artifact  # noqa: PLC0415 - loads scipy and scikit-learn
        from hybridroute_lab.tables import read_outcomes  # noqa: PLC0415
        from hybridroute_serve.routing.artifact.file import decode_artifact  # noqa: PLC0415
        from hybridroute_serve.routing.embeddings import load_embedder  # noqa: PLC0415

        try:
            old = artifact.read_bytes()
        except OSError as error:
            raise CommandError(f"{artifact}: {error.strerror}") from error
        today = datetime.now(UTC).date()
        with lab_errors(), progress_bar() as progress:
            outcomes = read_outcomes(
                labels,
                prompt_column=prompt_column,
                weak_column=weak_column,
                strong_column=strong_column,
                margin_column=margin_column,
            )
            renewed = certify_artifact(
                old,
                outcomes,
                load_embedder(decode_artifact(old).header.embedding_name),
                today,
                _models(model, route, system_prompt),
                workers=usable_workers(),
                progress=progress,
            )
        _write(output, renewed)
    _show(output, renewed, as_json=as_json)
    if not as_json:
        _tell_left_out(renewed, len(outcomes.prompts))


def _models(given: list[str] | None, route: Path | None, system_prompt: Path | None) -> dict[str, str]:
    """Return what the outcomes were made with: by the route's file and the system prompt's, and what is given."""
    return _models_of_route(route) | _named_prompt(system_prompt) | _given_models(given)


def _models_of_route(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        route = load_route(file)
    except InvalidDocumentError as error:
        raise CommandError(str(error)) from error
    # Where keys and policy are says nothing of models, and need not be known yet.
    spec = route.spec.model_copy(update={"routing": Routing(), "auth": None})
    resolved = tuple(ResolvedUpstream(item.name, base_url=item.base_url) for item in spec.llm.upstreams)
    named = route_models(render_live_policy(route.model_copy(update={"spec": spec}), resolved))
    return named | _weights_of(file, spec.slm.model.uri)


def _weights_of(file: Path, uri: str) -> dict[str, str]:
    """Return the digest of the SLM's file, or nothing where this machine does not have it, such as one in an image."""
    try:
        model = find_model(uri if uri in BUNDLED_MODELS else str(file.parent / uri))
    except EngineError:
        return {}
    return {WEIGHTS: hash_file(model.path)}


def _named_prompt(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        return {SYSTEM_PROMPT: digest_prompt(file.read_text(encoding="utf-8"))}
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file}: is not UTF-8 text") from error


def _given_models(given: list[str] | None) -> dict[str, str]:
    pairs = [entry.partition("=") for entry in given or []]
    wrong = [name for name, equals, digest in pairs if not (name and equals and digest)]
    if wrong:
        raise CommandError(f"--model takes NAME=DIGEST, not {wrong[0]!r}")
    return {name: digest for name, _, digest in pairs}


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _show(path: Path, data: bytes, *, as_json: bool) -> None:
    from hybridroute_serve.routing.artifact.file import decode_artifact  # noqa: PLC0415 - loads numpy
    from hybridroute_serve.routing.artifact.header import header_document  # noqa: PLC0415

    artifact = decode_artifact(data)
    if as_json:
        print_json({"sha256": artifact.digest, **header_document(artifact.header)})
        return
    rows = artifact.header.rows
    console().print(
        f"{path}: {artifact.size_bytes / 1024:.0f} KiB, sha256 {artifact.digest[:12]}, embedding "
        f"{artifact.header.embedding_name}; {rows.fit} rows learned from, "
        f"{rows.certify} certified with, {rows.repeated} repeated, {rows.near_duplicates} near-duplicates"
    )
    console().print(_promises(artifact))
    if artifact.header.margins is not None:
        console().print(_cascades(artifact.header.margins, artifact.header.promise))


def _tell_left_out(data: bytes, fresh: int | None = None) -> None:
    """Say how many rows were not used; `fresh` are those given to certify with alone."""
    from hybridroute_serve.routing.artifact.file import decode_artifact  # noqa: PLC0415 - loads numpy

    rows = decode_artifact(data).header.rows
    given, used = (rows.given, rows.fit + rows.certify) if fresh is None else (fresh, rows.certify)
    if given > used:
        console().print(
            f"{given - used:,} of {given:,} rows, drawn at random, were not used: scores learn nothing from more than "
            "50,000, and a promise gains next to nothing from more than 50,000"
        )


_RISKS = (0.01, 0.02, 0.05, 0.1, 0.2)


def _cascades(margins: "MarginTable", promise: "PromiseTable | None") -> Table:
    title = f"cascade of {margins.tokens} tokens, chosen on {margins.rows} rows, counted on {margins.certify} others"
    table = Table(title=title, title_justify="left")
    for heading in ("maxRisk", "maxShare", "threshold", "escalated", "joint regret without", "with"):
        table.add_column(heading, justify="right")
    for risk in _RISKS:
        confidence = promise.threshold_for(risk, 0.1).threshold if promise is not None else None
        for share in (0.05, 0.1, 0.2):
            found = margins.find(confidence, share) if confidence is not None else None
            if found is None or not margins.certify:
                continue
            point, place = found
            table.add_row(
                f"{risk:g}",
                f"{share:g}",
                f"{point.margins[place]:.4f}",
                f"{100 * point.escalated[place] / margins.certify:.1f} %",
                f"{point.regret / margins.certify:.4f}",
                f"{point.regret_left[place] / margins.certify:.4f}",
            )
    return table


def _promises(artifact: "ArtifactFile") -> Table | str:
    promise = artifact.header.promise
    if promise is None:
        return f"no promise: {artifact.header.promise_note}"
    table = Table(title=f"{promise.rows} certification rows, delta 0.1", title_justify="left")
    for heading in ("maxRisk", "threshold", "kept", "regret if kept", "net loss", "SLM wrong"):
        table.add_column(heading, justify="right")
    for risk in _RISKS:
        found = promise.threshold_for(risk, 0.1)
        if found.point is None or found.threshold is None:
            table.add_row(f"{risk:g}", "nothing kept", "0 %", "", "", "")
            continue
        kept = max(1, found.point.kept)
        table.add_row(
            f"{risk:g}",
            f"{found.threshold:.4f}",
            f"{100 * found.kept_share:.0f} %",
            f"{100 * found.point.regret / kept:.1f} %",
            f"{100 * found.point.llm_better / kept:.1f} %",
            f"{100 * found.point.slm_wrong / kept:.1f} %",
        )
    return table
