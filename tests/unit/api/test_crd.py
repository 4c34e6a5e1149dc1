"""The generated definition: what the file holds, and what holds of every part of the schema."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hybridroute_api.crd import render_crd
from hybridroute_api.v1alpha1 import HybridRoute
from hybridroute_api.v1alpha1.rules import RULES

FILE = Path(__file__).parents[3] / "crds" / "hybridroute.dev_hybridroutes.yaml"
[VERSION] = render_crd()["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def parts(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from parts(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield f"{path}.*", schema[key]
            yield from parts(schema[key], f"{path}.*")


SPEC = list(parts(SCHEMA["properties"]["spec"], ".spec"))


def test_file_is_what_the_models_say() -> None:
    assert yaml.safe_load(FILE.read_text()) == render_crd()


def test_same_document_each_time() -> None:
    first = render_crd()
    first["spec"]["versions"].clear()
    assert render_crd() == render_crd() != first


def test_every_field_is_described() -> None:
    plain = [path for path, schema in SPEC if not path.endswith("*")]
    assert len(plain) > 60
    assert not [path for path, schema in SPEC if not path.endswith("*") and not schema.get("description")]


def test_every_value_is_bounded() -> None:
    bounds = {
        "string": ({"maxLength"}, {"pattern"}, {"enum"}),
        "integer": ({"minimum", "maximum"},),
        "array": ({"maxItems"},),
        "boolean": (set(),),
    }
    for path, schema in SPEC:
        if schema["type"] != "object":
            assert any(marks <= set(schema) for marks in bounds[schema["type"]]), path
        elif "additionalProperties" in schema:
            assert "maxProperties" in schema, path


def test_defaults_make_the_same_object_as_the_models() -> None:
    """Dump a route with every default written out: those of the schema are the same."""
    for path, schema in SPEC:
        if "default" in schema and schema["type"] == "object" and "properties" in schema:
            shown = {
                name: child["default"] for name, child in schema["properties"].items() if "default" in child
            }
            assert schema["default"] == shown, path


def test_a_price_that_a_rule_asks_for_has_no_default() -> None:
    pricing = SCHEMA["properties"]["spec"]["properties"]["slm"]["properties"]["pricing"]
    assert "default" not in pricing["properties"]["gpuHourUSD"]


def test_each_rule_is_there_once_for_each_of_its_paths() -> None:
    schemas = [SCHEMA["properties"]["spec"], *(schema for _, schema in SPEC)]
    found = [rule["rule"] for schema in schemas for rule in schema.get("x-kubernetes-validations", [])]
    for rule in RULES:
        if rule.cel:
            assert found.count(rule.cel) == len(rule.paths) * sum(r.cel == rule.cel for r in RULES), rule.id


def test_columns_show_fields_that_exist() -> None:
    status = dict(parts(SCHEMA["properties"]["status"], ".status"))
    for column in VERSION["additionalPrinterColumns"]:
        if column["jsonPath"].startswith(".status") and "conditions" not in column["jsonPath"]:
            assert column["jsonPath"] in status
    assert set(HybridRoute.model_fields) == {"api_version", "kind", "metadata", "spec", "status"}
