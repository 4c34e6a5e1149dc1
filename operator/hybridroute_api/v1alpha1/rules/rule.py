"""What a rule is, and the values of an object that its paths stand for."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

__all__ = ["Location", "Rule", "Violation", "cel_list", "values_at"]

Location = tuple[str | int, ...]
"""Field names as written in the document, list indices and map keys, from the document's root."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that an object breaks, and where."""

    rule_id: str
    location: Location
    message: str


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `holds` gets the value at each path: a model, a field's value or a `(key, value)` pair."""

    id: str
    paths: tuple[str, ...]
    message: str
    """What to do, without a full stop."""
    holds: Callable[[Any], bool]
    cel: str
    """The same rule for an API server: `self` is the value at the path, or the whole map for a path that ends in
    `{*}`. Defaults are filled in before it runs. Empty where CEL's cost limits forbid it: models alone refuse then.
    """
    field: str = ""
    """Field below the path that the message belongs to, such as `model.uri`; default: the path itself."""
    blames: Callable[[Any], Location] = lambda _: ()
    """The same where it depends on the value that breaks the rule, such as an item of a list."""

    def check(self, location: Location, value: Any) -> Violation | None:
        """Return how the value at a location breaks the rule, or None."""
        if self.holds(value):
            return None
        below = tuple(self.field.split(".")) if self.field else self.blames(value)
        return Violation(self.id, (*location, *below), self.message)


def values_at(root: BaseModel, path: str) -> Iterator[tuple[Location, Any]]:
    """Yield each value that a rule's path stands for, with its location; absent parts yield nothing."""
    yield from _descend(root, (), path.split("."))


def _descend(value: Any, location: Location, segments: list[str]) -> Iterator[tuple[Location, Any]]:
    if value is None:
        return
    if not segments:
        yield location, value
        return
    segment, *rest = segments
    if segment == "*":
        for index, item in enumerate(value):
            yield from _descend(item, (*location, index), rest)
    elif segment == "{*}":
        for key, item in value.items():
            yield from _descend((key, item), (*location, key), rest)
    else:
        yield from _descend(getattr(value, _field_name(type(value), segment)), (*location, segment), rest)


def _field_name(model: type[BaseModel], alias: str) -> str:
    for name, field in model.model_fields.items():
        if alias in (field.alias, name):
            return name
    raise LookupError(f"{model.__name__} has no field {alias}")


def cel_list(words: Iterable[str]) -> str:
    """Write words as a list in CEL."""
    return f"[{', '.join(repr(word) for word in words)}]"
