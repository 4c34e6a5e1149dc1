"""A problem in a document, as a person needs it: where it is, what is wrong and what to do."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["InvalidDocumentError", "Location", "Problem", "format_location", "printable"]

Location = tuple[str | int, ...]
"""Names, map keys and list indices from the document's root."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file."""

    file: str
    line: int
    """From 1; 0 when the problem is the file as a whole."""
    column: int
    """From 1; 0 when the problem is the file as a whole."""
    path: str
    """The field, as in `spec.llm.upstreams[0].baseURL`; empty when no field is to blame."""
    message: str
    """What is wrong and what to do, to be read after the path. Never holds a value from a secret field."""
    hint: str = ""
    """What the field means, with range and default; empty where the message says it all."""

    @property
    def place(self) -> str:
        """`file:line:column`, which editors and terminals turn into a link."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        return " ".join(part for part in (f"{self.place}:", self.path, self.message) if part)


class InvalidDocumentError(Exception):
    """A file does not hold a valid HybridRoute. Holds every problem that was found, in order of lines."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
        super().__init__("\n".join(map(str, self.problems)))


def printable(text: str) -> str:
    """Return the text with control characters escaped: a file's names and values must not steer a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def format_location(location: Location) -> str:
    """Return the location as a person writes it: `spec.llm.upstreams[0].headers["X-Team"]`."""
    text = ""
    for segment in location:
        if isinstance(segment, int):
            text += f"[{segment}]"
        elif re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", segment, re.ASCII):
            text += f".{segment}" if text else segment
        else:
            text += f'["{segment}"]'
    return text
