"""How far apart two answers to one request are, 0 to 1, without a label. Pure.

| answers | distance |
|---|---|
| the same but for case, white space, outer punctuation and code fences | 0 |
| both JSON objects or arrays | share of their values that differ, by place |
| both of at most `SHORT_WORDS` words: labels, numbers, names | 1 |
| one of them empty | 1 |
| else | 1 - cosine of their static embeddings, at least 0 |

The last row is coarse: it sees another topic, a refusal, another language or form, and hardly a changed number or name
in prose that is otherwise alike. `disagreement` therefore learns what is usual for a route before it judges.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SHORT_WORDS", "compare_answers"]

SHORT_WORDS = 4
"""Up to so many words an answer is a label, and an embedding of it says less than its letters."""

_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```\Z", re.DOTALL)
_OUTER = " \t\r\n.,;:!?\"'`*_()<>"


def compare_answers(one: str, other: str, embed: Callable[[str], NDArray[np.float32]]) -> float:
    """Return the distance. `embed` gives a text's normalised vector, zeros for a text without a token."""
    first, second = _unfence(one), _unfence(other)
    left, right = _normalise(first), _normalise(second)
    if left == right:
        return 0.0
    if not left or not right:
        return 1.0
    values, others = _read_json(first), _read_json(second)
    if values is not None and others is not None:
        return 1.0 - (values & others).total() / max(values.total(), others.total(), 1)
    if max(len(left.split()), len(right.split())) <= SHORT_WORDS:
        return 1.0
    return float(np.clip(1.0 - embed(first) @ embed(second), 0.0, 1.0))


def _unfence(text: str) -> str:
    fenced = _FENCE.match(text.strip())
    return fenced.group(1) if fenced else text


def _normalise(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_OUTER)


def _read_json(text: str) -> Counter[tuple[str, str]] | None:
    """Return the leaves of a JSON object or array, each with its place; None for any other text."""
    try:
        document = json.loads(text)
        return Counter(_leaves(document, "")) if isinstance(document, dict | list) else None
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict() if value:
            for name, item in value.items():
                yield from _leaves(item, f"{place}/{name}")
        case list() if value:
            for number, item in enumerate(value):
                yield from _leaves(item, f"{place}/{number}")
        case str():
            yield place, _normalise(value)
        case _:
            yield place, json.dumps(value)
