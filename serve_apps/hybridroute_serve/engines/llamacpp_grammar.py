"""Which schemas llama.cpp's server can take without holding up everybody else. Pure.

It turns a schema, of an answer or of a tool, into a grammar, and builds and samples that in the one loop that all its
requests share. Two shapes take it minutes there, and a client that leaves does not end them: thousands of alternatives
(an enumeration of 4 KB costs 1 s of CPU time, one of 17 KB 7 s, growing with the square), and patterns that repeat a
group, such as `^(a?){200}$`, whose parses multiply. Numbers of repetitions are bounded by llama.cpp itself.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw

__all__ = ["explain_heavy_field"]

_MOST_BYTES: Mapping[str, int] = MappingProxyType(
    {"response_format": 4096, "tools": 16384, "logit_bias": 65536, "stop": 4096}
)
"""The last two make no grammar, but are gone through for each token."""
_REPEATED_GROUP = re.compile(r"\)[*+?{]")


def explain_heavy_field(fields: Mapping[str, Raw]) -> tuple[str, str] | None:
    """Return the name of a field that would hold up others, and what is to be changed about it."""
    for name, most_bytes in _MOST_BYTES.items():
        value = fields.get(name)
        if value is None:
            continue
        if len(memoryview(value)) > most_bytes:
            return name, f"The small model takes '{name}' up to {most_bytes} bytes."
        text = bytes(value)
        if b"pattern" not in text and b"\\u" not in text:  # an escape can spell the key otherwise
            continue
        try:
            repeats = _repeats_a_group(value)
        except msgspec.MsgspecError:
            return name, f"The small model's engine cannot read the numbers in '{name}'."
        if repeats:
            return name, f"The small model takes no 'pattern' that repeats a group in '{name}'."
    return None


def _repeats_a_group(value: Raw) -> bool:
    unseen: list[Any] = [msgspec.json.decode(value)]
    while unseen:
        one = unseen.pop()
        if isinstance(one, dict):
            pattern = one.get("pattern")
            if isinstance(pattern, str) and _REPEATED_GROUP.search(pattern):
                return True
            unseen.extend(one.values())
        elif isinstance(one, list):
            unseen.extend(one)
    return False
