"""A keeper on temporary files, whose watch and upkeep run when a test says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.applications import Starlette

from hybridroute_api.serving import KeeperArgs, LivePolicy
from hybridroute_serve.keeper.app import build_keeper_app
from hybridroute_serve.routing.embeddings import read_embedding_digest
from support.clocks import TurnedClock
from support.policies import a_policy

__all__ = ["METRICS_TOKEN", "TOKEN", "a_keeper_app", "keeper_args", "write_live"]

TOKEN = "internal-token-of-the-test"
METRICS_TOKEN = "metrics-token-of-the-test"


def keeper_args(directory: Path) -> KeeperArgs:
    (directory / "token").write_text(TOKEN + "\n")
    (directory / "metrics-token").write_text(METRICS_TOKEN + "\n")
    return KeeperArgs(
        route="support",
        token_file=str(directory / "token"),
        metrics_token_file=str(directory / "metrics-token"),
        state_dir=str(directory / "state"),
        live_file=str(directory / "live.json"),
    )


def write_live(directory: Path, policy: LivePolicy | str) -> None:
    """Replace the live policy's file, as the control plane does."""
    draft = directory / "live.json.new"
    draft.write_text(policy if isinstance(policy, str) else policy.model_dump_json())
    draft.replace(directory / "live.json")


async def _never(_: float) -> None:
    await asyncio.Event().wait()


def a_keeper_app(
    directory: Path,
    clock: TurnedClock,
    *,
    live: LivePolicy | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = _never,
    embedding: str | None = None,
) -> Starlette:
    """Build the application with a good live policy in place. Without a `sleep` its tasks rest after one round.

    `embedding`: digest of the one that routers use, where it is not the installed one.
    """
    args = keeper_args(directory)
    if not (directory / "live.json").exists():
        write_live(directory, live or a_policy())
    read = read_embedding_digest if embedding is None else lambda _: embedding
    return build_keeper_app(args, clock=clock, monotonic=monotonic, sleep=sleep, read_embedding=read)
