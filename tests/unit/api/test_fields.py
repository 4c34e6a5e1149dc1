"""What holds of every field of the object: described, bounded, and named as the document names it."""

import re

import annotated_types
import pytest
from pydantic import WithJsonSchema

from hybridroute_api.quantities import DECIMAL_PATTERN, DURATION_PATTERN, USD_PATTERN
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.fields import FieldPath, choices_of, find_field, item_type, walk_fields
from hybridroute_api.v1alpha1.model import FORMS

FIELDS = list(walk_fields(HybridRoute))
SPEC_LEAVES = [field for field in FIELDS if field.path[0] == "spec" and field.model is None]


def ids(field: FieldPath) -> str:
    return ".".join(field.path)


def constraint(field: FieldPath, kind: type) -> object | None:
    return next((mark for mark in field.constraints if isinstance(mark, kind)), None)


def pattern_of(field: FieldPath) -> str | None:
    written = constraint(field, WithJsonSchema)
    if isinstance(written, WithJsonSchema) and written.json_schema is not None:
        return str(written.json_schema["pattern"])
    return next((mark.pattern for mark in field.constraints if getattr(mark, "pattern", None)), None)


@pytest.mark.parametrize("field", FIELDS, ids=ids)
def test_is_described(field: FieldPath) -> None:
    assert len(field.description) >= 20
    assert field.description.endswith(".")


@pytest.mark.parametrize("field", [field for field in FIELDS if field.path[0] != "status"], ids=ids)
def test_says_its_default_or_that_it_is_required(field: FieldPath) -> None:
    word = r"\b[Rr]equired\b" if field.info.is_required() else r"\b[Dd]efault\b"
    assert re.search(word, field.description)


@pytest.mark.parametrize("field", SPEC_LEAVES, ids=ids)
def test_spec_is_bounded(field: FieldPath) -> None:
    annotation = str(field.info.annotation)
    if choices_of(field.info.annotation) or "bool" in annotation:
        return
    if item_type(field.info.annotation) is not None or "dict" in annotation or "str" in annotation:
        assert constraint(field, annotated_types.MaxLen) or pattern_of(field)
    else:
        assert constraint(field, annotated_types.Ge)
        assert constraint(field, annotated_types.Le)


@pytest.mark.parametrize("field", SPEC_LEAVES, ids=ids)
def test_numeric_bounds_stand_in_the_description(field: FieldPath) -> None:
    upper = constraint(field, annotated_types.Le)
    if isinstance(upper, annotated_types.Le):
        assert "Range " in field.description


@pytest.mark.parametrize("field", [field for field in SPEC_LEAVES if pattern_of(field)], ids=ids)
def test_each_pattern_has_words(field: FieldPath) -> None:
    assert pattern_of(field) in {*FORMS, DURATION_PATTERN, USD_PATTERN, DECIMAL_PATTERN}


def test_paths_are_unique_and_in_camel_case() -> None:
    paths = [field.path for field in FIELDS]
    assert len(set(paths)) == len(paths)
    assert not [path for path in paths if "_" in path[-1]]


def test_a_location_in_a_document_finds_its_field() -> None:
    found = find_field(HybridRoute, ("spec", "llm", "upstreams", 3, "baseURL"))
    assert found is not None
    assert found.path == ("spec", "llm", "upstreams", "*", "baseURL")
    assert find_field(HybridRoute, ("spec", "routing", "examples", "local", 7)) is not None
    assert find_field(HybridRoute, ("spec", "llm", "upstreams", 0, "headers", "X-Team")) is None
