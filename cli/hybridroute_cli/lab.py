"""Calls into the lab: its packages are an extra, and its errors become one line for a person."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated

import typer

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_cli.output import CommandError
from hybridroute_serve.engines.cpus import usable_cpus

__all__ = ["Embedding", "lab_errors", "need_lab", "usable_workers"]

Embedding = Annotated[
    EmbeddingName,
    typer.Option(help="What reads the prompts: static, or minilm, which takes milliseconds and an extra."),
]

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def need_lab(*, plots: bool = False) -> None:
    """Raise a `CommandError` when the lab's packages are missing. Keeps linear algebra to one thread.

    More threads make small matrices slower, and decisions are timed on one core. Only a library that is not yet
    loaded heeds it, so this is called before the lab is imported.
    """
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    wanted = ["sklearn", "scipy", *(["matplotlib"] if plots else [])]
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise CommandError(f"this command needs {', '.join(missing)}: pip install 'hybridroute[lab,serve]'")


def usable_workers() -> int:
    """Return how many processes may work on rows: one a core, and at most 8, as each takes memory."""
    return max(1, min(8, int(usable_cpus())))


@contextmanager
def lab_errors() -> Iterator[None]:
    """Turn the lab's errors about data, artifacts and the embedding into a `CommandError`."""
    from hybridroute_lab.tables import DataError  # noqa: PLC0415 - the command line starts without the lab
    from hybridroute_serve.routing.artifact.errors import ArtifactError  # noqa: PLC0415
    from hybridroute_serve.routing.embedding import EmbeddingUnavailableError  # noqa: PLC0415

    try:
        yield
    except (DataError, ArtifactError, EmbeddingUnavailableError) as error:
        raise CommandError(str(error)) from error
