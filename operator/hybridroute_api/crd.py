"""The CustomResourceDefinition, made from the models. Pure: it returns a document and writes none.

One source for two readers: what the models refuse the API server refuses too, with the same words where the schema
lets us choose them. Bounds of numbers are the schema's own; bounds of durations and money, which are strings outside,
and the rules between fields are CEL. Written to `crds/` by `make crds`; the chart carries a copy.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, get_args, get_origin

import annotated_types
from pydantic import BaseModel, TypeAdapter, WithJsonSchema
from pydantic.fields import FieldInfo

from hybridroute_api.quantities import (
    DECIMAL_PATTERN,
    DURATION_PATTERN,
    USD_PATTERN,
    format_duration,
    format_usd,
)
from hybridroute_api.v1alpha1.fields import FieldPath, bare_type, choices_of, constraints_in, item_type
from hybridroute_api.v1alpha1.resource import API_VERSION, KIND, HybridRoute, ObjectMeta
from hybridroute_api.v1alpha1.rules import RULES

__all__ = ["CRD_NAME", "PLURAL", "render_crd"]

_GROUP, _VERSION = API_VERSION.split("/")
PLURAL: Final = "hybridroutes"
CRD_NAME: Final = f"{PLURAL}.{_GROUP}"

Schema = dict[str, Any]

_COLUMNS: Final = (
    # name, type, path, what it shows, whether only `-o wide` shows it
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the route serves.", False),
    ("URL", "string", ".status.url", "Base address for OpenAI clients.", False),
    ("SLM %", "integer", ".status.slmPercent", "Share of requests that the SLM served.", False),
    ("Spent", "string", ".status.spentUSD", "Dollars spent: of the limit, or in all without one.", False),
    ("Limit", "string", ".status.budget.limitUSD", "Dollars that may be spent per window.", False),
    ("Saved", "string", ".status.cost.savedUSD", "Dollars that all-LLM would have cost beyond that.", False),
    ("Mode", "string", ".status.mode", "Mode that the replicas follow.", True),
    ("Router", "integer", ".status.paths.router.readyReplicas", "Router replicas that answer.", True),
    ("SLM", "integer", ".status.paths.slm.readyReplicas", "SLM replicas that answer.", True),
    ("LLM", "integer", ".status.paths.llm.readyReplicas", "Replicas of the LLM proxy that answer.", True),
    (
        "Degraded",
        "string",
        '.status.conditions[?(@.type=="Degraded")].status',
        "Whether a part is faulty.",
        True,
    ),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the object was made.", False),
)

_CEL_VALUES: Final[Mapping[str, str]] = MappingProxyType(
    {DURATION_PATTERN: "duration(self)", USD_PATTERN: "double(self)", DECIMAL_PATTERN: "double(self)"}
)
"""How CEL reads a string that stands for a quantity, by the pattern of its type."""


def render_crd() -> dict[str, Any]:
    """Return the definition: one version, structural schema, status subresource, printer columns."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD_NAME},
        "spec": {
            "group": _GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["hr"],
                "categories": ["all", "hybridroute"],
            },
            "versions": [
                {
                    "name": _VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": _object_schema()},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, description: str, wide: bool) -> dict[str, Any]:
    priority = {"priority": 1} if wide else {}
    return {"name": name, "type": kind, "jsonPath": path, "description": description} | priority


def _object_schema() -> Schema:
    schema = _model_schema(HybridRoute, ())
    properties = schema["properties"]
    for name in ("apiVersion", "kind"):
        # The API server checks both itself, and refuses a schema that does.
        properties[name] = {"type": "string", "description": properties[name]["description"]}
    # Of the metadata a schema may restrict the name alone.
    name_schema = _model_schema(ObjectMeta, ())["properties"]["name"]
    properties["metadata"] = {
        "type": "object",
        "properties": {"name": {key: name_schema[key] for key in ("type", "maxLength", "pattern")}},
    }
    schema["required"] = ["spec"]
    return schema


def _model_schema(model: type[BaseModel], path: tuple[str, ...]) -> Schema:
    properties = {
        info.alias or name: _field_schema(info, (*path, info.alias or name))
        for name, info in model.model_fields.items()
    }
    required = [info.alias or name for name, info in model.model_fields.items() if info.is_required()]
    return (
        {"type": "object", "description": _one_line(model.__doc__), "properties": properties}
        | ({"required": required} if required else {})
        | _with_validations(list(_rules_at(path)))
    )


def _field_schema(info: FieldInfo, path: tuple[str, ...]) -> Schema:
    """Return the schema of a field at a path; `*` in the path stands for the items of a list."""
    field = FieldPath(path, info, None)
    schema = _typed_schema(info.annotation, path, field.constraints)
    validations = [*schema.pop("x-kubernetes-validations", []), *_range_rules(field, schema)]
    return (
        schema | {"description": field.description} | _default_of(info, path) | _with_validations(validations)
    )


def _typed_schema(annotation: Any, path: tuple[str, ...], constraints: tuple[Any, ...]) -> Schema:
    bare = bare_type(annotation)
    written = next((mark.json_schema for mark in constraints if isinstance(mark, WithJsonSchema)), None)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        return _model_schema(bare, path)
    rules = _with_validations(list(_rules_at(path)))
    item = item_type(annotation)
    if item is not None:
        inner = get_args(bare_type(annotation))[0]
        items = _typed_schema(inner, (*path, "*"), tuple(constraints_in(inner)))
        # Order is meaning in every list of the object, so lists are replaced as a whole.
        listed: Schema = {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
        return listed | _lengths(constraints, "minItems", "maxItems") | rules
    if get_origin(bare) is dict:
        inner = get_args(bare)[1]
        values = _typed_schema(inner, (*path, "{*}", "*"), tuple(constraints_in(inner)))
        mapped: Schema = {"type": "object", "additionalProperties": values}
        return mapped | _lengths(constraints, "minProperties", "maxProperties") | rules
    if written is not None:
        return dict(written) | rules
    return _plain_schema(bare, constraints) | rules


def _plain_schema(bare: Any, constraints: tuple[Any, ...]) -> Schema:
    choices = choices_of(bare)
    if choices:
        return {"type": "string", "enum": list(choices)}
    if bare is bool:
        return {"type": "boolean"}
    if bare is int:
        bounds: Schema = {"type": "integer", "format": "int64"}
        for mark in constraints:
            bounds |= {"minimum": mark.ge} if isinstance(mark, annotated_types.Ge) else {}
            bounds |= {"maximum": mark.le} if isinstance(mark, annotated_types.Le) else {}
        return bounds
    if bare is datetime:
        return {"type": "string", "format": "date-time"}
    if bare is str:
        pattern = next((mark.pattern for mark in constraints if getattr(mark, "pattern", None)), None)
        return (
            {"type": "string"}
            | _lengths(constraints, "minLength", "maxLength")
            | ({"pattern": pattern} if pattern else {})
        )
    raise TypeError(f"no schema for {bare}")


def _lengths(constraints: tuple[Any, ...], low: str, high: str) -> Schema:
    lengths: Schema = {}
    for mark in constraints:
        lengths |= {low: mark.min_length} if isinstance(mark, annotated_types.MinLen) else {}
        lengths |= {high: mark.max_length} if isinstance(mark, annotated_types.MaxLen) else {}
    return lengths


def _range_rules(field: FieldPath, schema: Schema) -> Iterator[dict[str, str]]:
    """Yield the bounds of a duration, of money or of a decimal, in CEL."""
    value = _CEL_VALUES.get(schema.get("pattern", ""))
    if value is None:
        return
    comparisons = [
        f"{value} {sign} {_cel_literal(bound, schema['pattern'])}"
        for mark in field.constraints
        for sign, bound in ((">=", getattr(mark, "ge", None)), ("<=", getattr(mark, "le", None)))
        # Patterns admit no sign before durations and money: a bound of zero says nothing.
        if bound is not None and (bound or schema["pattern"] == DECIMAL_PATTERN)
    ]
    if comparisons and field.path[0] == "spec":
        yield {"rule": " && ".join(comparisons), "message": field.range_message}


def _cel_literal(bound: Any, pattern: str) -> str:
    if isinstance(bound, timedelta):
        return f"duration('{format_duration(bound)}')"
    return f"double('{format_usd(bound) if pattern == USD_PATTERN else bound}')"


def _rules_at(path: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rules between fields that belong at a path."""
    here = ".".join(path)
    for rule in RULES:
        if rule.cel and here in (rule_path.removesuffix(".{*}") for rule_path in rule.paths):
            place = {"fieldPath": f".{rule.field}"} if rule.field else {}
            yield {"rule": rule.cel, "message": rule.message} | place


def _default_of(info: FieldInfo, path: tuple[str, ...]) -> Schema:
    """Return the default of a spec's field. `rules` reads whether a GPU's price was given, so that has none here."""
    if path[0] != "spec" or info.is_required() or info.alias in _WITHOUT_DEFAULT:
        return {}
    value = info.get_default(call_default_factory=True)
    if value is None:
        return {}
    adapter: TypeAdapter[Any] = TypeAdapter(info.rebuild_annotation())
    return {"default": _without(adapter.dump_python(value, mode="json", by_alias=True, exclude_none=True))}


_WITHOUT_DEFAULT: Final = frozenset({"gpuHourUSD"})


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items() if key not in _WITHOUT_DEFAULT}
    return value.value if isinstance(value, Enum) else value


def _with_validations(validations: list[dict[str, str]]) -> Schema:
    return {"x-kubernetes-validations": validations} if validations else {}


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
