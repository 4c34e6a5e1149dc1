"""The object's fields as a list of paths, read off the models.

For whoever needs to know what exists without a document in hand: error messages, the fields that only a cluster
can honour, generated schemas and references. A path's segments are the names in the document; `*` is a list's item.
"""

import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, WithJsonSchema
from pydantic.fields import FieldInfo

from hybridroute_api.quantities import (
    DECIMAL_PATTERN,
    DURATION_PATTERN,
    USD_PATTERN,
    format_duration,
    format_usd,
)

__all__ = [
    "ITEM",
    "FieldPath",
    "bare_type",
    "choices_of",
    "cluster_only_paths",
    "constraints_in",
    "find_field",
    "item_type",
    "walk_fields",
]

ITEM = "*"
"""Segment that stands for any item of a list."""


_BOUND_FORMS: Final[Mapping[str, Callable[[Any], str]]] = types.MappingProxyType(
    {
        DURATION_PATTERN: format_duration,
        USD_PATTERN: lambda bound: f'"{format_usd(bound)}"',
        DECIMAL_PATTERN: lambda bound: f'"{bound}"',
    }
)
"""How a bound is written, by the pattern of the field's type."""


@dataclass(frozen=True, slots=True)
class FieldPath:
    """One field of a model, and where it is."""

    path: tuple[str, ...]
    info: FieldInfo
    model: type[BaseModel] | None
    """The model of the field's value, or of its items; None for a plain value."""

    @property
    def description(self) -> str:
        """What the field means, with unit, range and default, on one line."""
        return " ".join((self.info.description or "").split())

    @property
    def constraints(self) -> tuple[Any, ...]:
        """Bounds, patterns and forms of the field's value, those inside `… | None` included."""
        return (*self.info.metadata, *constraints_in(self.info.annotation))

    @property
    def range_message(self) -> str:
        """What is wrong with a value out of range, and what to write instead."""
        bounds = {type(mark): mark for mark in self.constraints}
        low, high = bounds.get(annotated_types.Ge), bounds.get(annotated_types.Le)
        written = bounds.get(WithJsonSchema)
        form = _BOUND_FORMS.get(written.json_schema["pattern"], str) if written is not None else str
        limits = [f"at least {form(low.ge)}"] if low is not None else []
        limits += [f"at most {form(high.le)}"] if high is not None else []
        return f"is out of range: use {' and '.join(limits)}"


def walk_fields(model: type[BaseModel], prefix: tuple[str, ...] = ()) -> Iterator[FieldPath]:
    """Yield every field of `model` and of the models below it, parents first, in the order of declaration."""
    for name, info in model.model_fields.items():
        path = (*prefix, info.alias or name)
        item = item_type(info.annotation)
        inner = item if item is not None else bare_type(info.annotation)
        child = inner if isinstance(inner, type) and issubclass(inner, BaseModel) else None
        yield FieldPath(path, info, child)
        if child is not None:
            yield from walk_fields(child, path if item is None else (*path, ITEM))


def find_field(model: type[BaseModel], location: tuple[str | int, ...]) -> FieldPath | None:
    """Return the field at a location in a document, or None where there is none, such as a map's entry."""
    wanted = tuple(ITEM if isinstance(segment, int) else segment for segment in location)
    while wanted and wanted[-1] == ITEM:
        wanted = wanted[:-1]
    return next((field for field in walk_fields(model) if field.path == wanted), None)


def item_type(annotation: Any) -> Any | None:
    """Return the type of a list's items, or None if the annotation is no list."""
    bare = bare_type(annotation)
    return bare_type(get_args(bare)[0]) if get_origin(bare) is tuple else None


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Return the words that the annotation allows, or none if it allows any text."""
    bare = bare_type(annotation)
    if get_origin(bare) is Literal:
        return tuple(str(choice) for choice in get_args(bare))
    if isinstance(bare, type) and issubclass(bare, StrEnum):
        return tuple(choice.value for choice in bare)
    return ()


def cluster_only_paths(
    value: BaseModel, prefix: tuple[str | int, ...] = ()
) -> Iterator[tuple[str | int, ...]]:
    """Yield the location of every field that was given and that only a cluster can honour."""
    for name, info in type(value).model_fields.items():
        if name not in value.model_fields_set:
            continue
        location = (*prefix, info.alias or name)
        child = getattr(value, name)
        if isinstance(info.json_schema_extra, dict) and info.json_schema_extra.get(
            "x-hybridroute-cluster-only"
        ):
            yield location
        elif isinstance(child, BaseModel):
            yield from cluster_only_paths(child, location)
        elif isinstance(child, tuple):
            for index, item in enumerate(child):
                if isinstance(item, BaseModel):
                    yield from cluster_only_paths(item, (*location, index))


def constraints_in(annotation: Any) -> Iterator[Any]:
    """Yield the bounds, patterns and forms that an annotation carries, those inside `… | None` included."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        yield from constraints_in(inner)
        for mark in metadata:
            yield from mark.metadata if isinstance(mark, FieldInfo) else (mark,)
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from constraints_in(part)


def bare_type(annotation: Any) -> Any:
    """Return the annotation without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return bare_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return bare_type(next(part for part in get_args(annotation) if part is not type(None)))
    return annotation
