"""`hybridroute replay`: a file of prompts through the running route, and what became of them."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from hybridroute_api.vocabulary import Header, PathName
from hybridroute_cli.gateway import Gateway, find_running, open_gateway
from hybridroute_cli.output import CommandError, command_errors, console, print_json

__all__ = ["Prompt", "Tally", "read_prompts", "replay"]

_PROMPT_KEYS = ("prompt", "text", "query", "question")


def replay(
    file: Annotated[
        Path, typer.Argument(help="One prompt a line, or JSONL with `prompt` and maybe `expected_path`.")
    ],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests in flight.")] = 4,
    max_tokens: Annotated[int, typer.Option(min=1, help="Cap on each answer's tokens.")] = 64,
    route: Annotated[str | None, typer.Option(help="Name of the route; not needed when one is up.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Send a file of prompts to the running route and sum up paths, gates, latency and dollars."""
    with command_errors(as_json=as_json):
        prompts = list(read_prompts(file))[:limit]
        if not prompts:
            raise CommandError(f"{file} holds no prompt")
        tally = asyncio.run(_replay(prompts, concurrency, max_tokens, route, quiet=as_json))
    summary = tally.summary()
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary, tally)
    if tally.errors:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line of the file."""

    text: str
    expected_path: str | None = None
    """The path that the person who wrote the file expects, if they said so."""


def read_prompts(file: Path) -> Iterator[Prompt]:
    """Yield a file's prompts; blank lines are skipped. Raises `CommandError` naming the line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CommandError(f"{file} is not UTF-8 (byte {error.start}); convert it first") from error
    is_jsonl = file.suffix in (".jsonl", ".ndjson")
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _read_jsonl(file, number, line) if is_jsonl else Prompt(line)


def _read_jsonl(file: Path, number: int, line: str) -> Prompt:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise CommandError(f"{file}:{number}: not JSON ({error.msg})") from error
    if isinstance(row, str):
        return Prompt(row)
    if isinstance(row, dict):
        expected = row.get("expected_path")
        if expected not in (None, *PathName):
            raise CommandError(f"{file}:{number}: expected_path is {' or '.join(PathName)}, or absent")
        for key in _PROMPT_KEYS:
            if isinstance(row.get(key), str):
                return Prompt(row[key], expected)
    raise CommandError(
        f"{file}:{number}: expected a string or an object with one of {', '.join(_PROMPT_KEYS)}"
    )


@dataclass(slots=True)
class Tally:
    """What became of the prompts."""

    latencies_ms: dict[str, list[float]] = field(
        default_factory=lambda: {path.value: [] for path in PathName}
    )
    usd: dict[str, Decimal] = field(default_factory=lambda: {path.value: Decimal(0) for path in PathName})
    gates: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    expectations: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(expected path, path) → answers, of prompts that came with an expectation."""

    def add_answer(
        self, prompt: Prompt, status: int, headers: dict[str, str], latency_ms: float, message: str
    ) -> None:
        """Count one answer."""
        if gate := headers.get(Header.GATE):
            self.gates[gate] += 1
        path = headers.get(Header.PATH)
        if status != 200 or path is None:
            self.errors[f"{status} {message}"] += 1
            return
        self.latencies_ms[path].append(latency_ms)
        if prompt.expected_path is not None:
            self.expectations[prompt.expected_path, path] += 1
        self.usd[path] += Decimal(headers.get(Header.COST_USD, "0"))

    def summary(self) -> dict[str, Any]:
        """Return the counts as the documented JSON."""
        answered = sum(len(values) for values in self.latencies_ms.values())
        errors = sum(self.errors.values())
        paths = {
            path: {
                "requests": len(values),
                "p50_ms": _quantile(values, 0.50),
                "p99_ms": _quantile(values, 0.99),
                "usd": str(self.usd[path]),
            }
            for path, values in self.latencies_ms.items()
        }
        summary = {"requests": answered + errors, "errors": errors, "paths": paths, "gates": dict(self.gates)}
        return summary | ({"expected": self._agreement()} if self.expectations else {})

    def _agreement(self) -> dict[str, dict[str, float | int]]:
        agreement: dict[str, dict[str, float | int]] = {}
        for path in PathName:
            answers = sum(self.expectations[path, other] for other in PathName)
            if answers:
                share = round(self.expectations[path, path] / answers, 4)
                agreement[path.value] = {"requests": answers, "share": share}
        return agreement


def _quantile(values: list[float], q: float) -> float | None:
    if not values:
        return None
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 1)


async def _replay(
    prompts: list[Prompt], concurrency: int, max_tokens: int, route: str | None, *, quiet: bool
) -> Tally:
    directory, run = find_running(route)
    tally = Tally()
    waiting = iter(prompts)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(), transient=True, disable=quiet) as progress:
        task = progress.add_task("replaying", total=len(prompts))

        async def work(gateway: Gateway) -> None:
            for prompt in waiting:
                began = time.monotonic()
                try:
                    answer = await gateway.ask(prompt.text, model="hybridroute", max_tokens=max_tokens)
                except CommandError as error:
                    tally.errors[str(error)] += 1
                else:
                    latency_ms = (time.monotonic() - began) * 1000
                    message = "" if answer.status == 200 else answer.text
                    tally.add_answer(prompt, answer.status, answer.headers, latency_ms, message)
                progress.advance(task)

        async with open_gateway(directory, run) as gateway:
            await asyncio.gather(*(work(gateway) for _ in range(min(concurrency, len(prompts)))))
    return tally


def _print_summary(summary: dict[str, Any], tally: Tally) -> None:
    table = Table("path", "requests", "share", "p50 ms", "p99 ms", "USD")
    for path, figures in summary["paths"].items():
        share = f"{figures['requests'] / summary['requests']:.1%}"
        latencies = ("-" if figures[key] is None else f"{figures[key]:.0f}" for key in ("p50_ms", "p99_ms"))
        table.add_row(path, str(figures["requests"]), share, *latencies, figures["usd"])
    out = console()
    out.print(table)
    out.print("gates: " + ", ".join(f"{gate} {count}" for gate, count in sorted(summary["gates"].items())))
    for path, figures in summary.get("expected", {}).items():
        out.print(f"expected on {path}: {figures['share']:.1%} of {figures['requests']} went there")
    out.print(f"requests: {summary['requests']}, errors: {summary['errors']}")
    for message, count in tally.errors.most_common(5):
        out.print(f"  {count} x {message}", markup=False)
