"""Changes of an object drawn from its schema: values that the schema allows, and such as a person writes by mistake.

One change touches one field. Whether the whole object is valid after it is not known here: rules between fields are the
API server's and the models' to judge.
"""

import copy
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from hybridroute_api.crd import render_crd

__all__ = ["Change", "draw_change", "fields_of_spec"]

Schema = dict[str, Any]
Path = tuple[str | int, ...]

_TEXTS = (
    *("a", "support-keys", "provider", "X-Team", "team_a", "KEY_A", "registry/name:1.0", "primary", "second"),
    *("0", "1", "2", "0.5", "500m", "2.50", "0.123456789", "-0.3", "512Mi", "4Gi"),
    *("100ms", "2s", "10s", "30s", "1m30s", "2m", "1h", "24h", "168h", "month", "7d"),
    *("bundled:smollm2-135m", "/models/other.gguf", "https://other.example/v1", "http://10.0.0.1:8000/v1"),
    *("my balance", "block my card", "write a poem"),
)
"""Texts of which some are right for every pattern of the schema."""
_WRONG: tuple[Any, ...] = (
    None,
    "",
    "wrong word",
    "sk-1234 5",
    -1,
    0,
    10**9,
    1.5,
    True,
    [],
    {},
    ["a"],
    {"a": 1},
)


@dataclass(frozen=True, slots=True)
class Change:
    """One field set, taken away or misspelt."""

    what: str
    spec: dict[str, Any]


def fields_of_spec() -> list[Path]:
    """Return the path of every field of the spec; a list's items are those of its first."""
    return [path for path, _ in _walk(_spec_schema(), ())]


def draw_change(spec: dict[str, Any], choose: random.Random, *, misguided: float) -> Change:
    """Return the spec with one field changed; with probability `misguided` in a way that its schema forbids."""
    path, schema = choose.choice(list(_walk(_spec_schema(), ())))
    changed = copy.deepcopy(spec)
    if choose.random() < misguided:
        if choose.random() < 0.2:
            _set(changed, (*path[:-1], f"{path[-1]}s"), 1, choose)
            return Change(f"misspelt {_dotted(path)}", changed)
        wrong = choose.choice([value for value in _WRONG if not _fits(value, schema)])
        _set(changed, path, wrong, choose)
        return Change(f"{_dotted(path)} = {wrong!r}", changed)
    if choose.random() < 0.25:
        _remove(changed, path)
        return Change(f"without {_dotted(path)}", changed)
    value = _draw(schema, choose)
    _set(changed, path, value, choose)
    return Change(f"{_dotted(path)} = {str(value)[:60]}", changed)


@cache
def _spec_schema() -> Schema:
    [version] = render_crd()["spec"]["versions"]
    schema: Schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def _walk(schema: Schema, path: Path) -> Iterator[tuple[Path, Schema]]:
    for name, inner in schema.get("properties", {}).items():
        yield (*path, name), inner
        yield from _walk(inner, (*path, name))
        if "properties" in inner.get("items", {}):
            yield from _walk(inner["items"], (*path, name, 0))


def _schema_at(path: Path) -> Schema:
    schema = _spec_schema()
    for step in path:
        schema = schema["items"] if isinstance(step, int) else schema["properties"][step]
    return schema


def _draw(schema: Schema, choose: random.Random) -> Any:
    """Return a value that the schema allows."""
    if "enum" in schema:
        return choose.choice(schema["enum"])
    match schema["type"]:
        case "boolean":
            return choose.random() < 0.5
        case "integer":
            low, high = schema.get("minimum", 0), schema.get("maximum", 1000)
            return choose.choice([low, high, min(high, low + 1), choose.randint(low, min(high, low + 8))])
        case "array":
            most = min(schema.get("maxItems", 3), 3)
            count = choose.randint(max(schema.get("minItems", 0), 0), most)
            return [_draw(schema["items"], choose) for _ in range(count)]
        case "object" if "additionalProperties" in schema:
            names = choose.sample(["pool", "X-Team", "zone"], choose.randint(0, 2))
            return {name: _draw(schema["additionalProperties"], choose) for name in names}
        case "object":
            needed = schema.get("required", ())
            inner = schema["properties"].items()
            return {name: _draw(s, choose) for name, s in inner if name in needed or choose.random() < 0.3}
        case _:
            return choose.choice([text for text in _TEXTS if _fits(text, schema)])


def _fits(value: Any, schema: Schema) -> bool:
    """Return whether the schema of one field allows a value; what lies further in is not looked at."""
    match schema["type"]:
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            whole = isinstance(value, int) and not isinstance(value, bool)
            return whole and schema.get("minimum", value) <= value <= schema.get("maximum", value)
        case "string":
            return (
                isinstance(value, str)
                and value in schema.get("enum", [value])
                and schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", 10**6)
                and re.search(schema.get("pattern", ""), value) is not None
            )
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _set(spec: dict[str, Any], path: Path, value: Any, choose: random.Random) -> None:
    """Put the value under its path; parts on the way that are missing are drawn."""
    target: Any = spec
    for depth, step in enumerate(path[:-1], start=1):
        if isinstance(step, int):
            if not target:
                target.append(_draw(_schema_at(path[:depth]), choose))
        elif not isinstance(target.get(step), (dict, list)):
            target[step] = _draw(_schema_at(path[:depth]), choose)
        target = target[step]
    target[path[-1]] = value


def _remove(spec: dict[str, Any], path: Path) -> None:
    target: Any = spec
    for step in path[:-1]:
        known = step < len(target) if isinstance(step, int) else step in target
        target = target[step] if known else None
        if not isinstance(target, (dict, list)):
            return
    target.pop(path[-1], None)


def _dotted(path: Path) -> str:
    return ".".join(("spec", *map(str, path)))
