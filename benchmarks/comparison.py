"""What comparisons of gateways have in common: their command line, what they come to, and the files they write."""

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmarks.load import how_measured, write_results

__all__ = ["Compared", "comparison_parser", "named", "parse_comparison", "write_comparison"]

MeasurementT = TypeVar("MeasurementT")


@dataclass(slots=True)
class Compared(Generic[MeasurementT]):
    """What a comparison came to. Measurements are dataclasses."""

    versions: dict[str, str] = field(default_factory=dict)
    """By gateway."""
    measurements: list[MeasurementT] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What was not measured, each with its reason."""


def named(options: dict[str, Any], text: str) -> list[Any]:
    """Return what comma-separated names stand for, in their order."""
    unknown = [name for name in text.split(",") if name not in options]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(options)}")
    return [options[name] for name in text.split(",")]


def comparison_parser(description: str | None, *, name: str, rounds: int) -> argparse.ArgumentParser:
    """Return a parser of the arguments that all have, `name` and `rounds` being the defaults."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", default=name, help="of the files that are written")
    return parser


def parse_comparison(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Read the command line, and make its folder."""
    arguments = parser.parse_args()
    arguments.work = arguments.work.resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    return arguments


def write_comparison(
    arguments: argparse.Namespace,
    compared: Compared[MeasurementT],
    *,
    module: str,
    report: Callable[[str], list[str]],
    plot: Callable[[Path], None],
    caption: str,
) -> None:
    """Write Markdown, JSON and, if anything was measured, PNG; `report` gets the sentence on how it was measured."""
    measured = how_measured(module, arguments.work)
    lines, image = report(measured), f"{arguments.name}.png"
    if compared.measurements:
        lines += ["", f"![{caption}]({image})"]
    document = {
        "measured": measured,
        "versions": compared.versions,
        "not_measured": compared.missing,
        "measurements": [asdict(one) for one in compared.measurements],  # type: ignore[call-overload]
    }
    write_results(arguments.output, arguments.name, lines, document)
    if compared.measurements:
        plot(arguments.output / image)
