"""Reads a route's file. Every problem in it is found at once and told in words that a person can act on.

The models say what is valid; this module adds the file, the line and the wording. It prints nothing.
"""

from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from hybridroute_api.model_uris import parse_claim
from hybridroute_api.v1alpha1.fields import cluster_only_paths, find_field
from hybridroute_api.v1alpha1.resource import KIND, RULES_ERROR, HybridRoute
from hybridroute_api.v1alpha1.rules import RULES, Violation
from hybridroute_cli.problems import InvalidDocumentError, Location, Problem, format_location
from hybridroute_cli.wording import is_like, suggest_zone, word_error
from hybridroute_cli.yaml_document import YamlDocument, parse_yaml_document
from hybridroute_serve.engines.vllm_arguments import check_arguments

__all__ = ["check_engine", "cluster_only_fields", "load_route", "one_machine_refusals", "parse_route"]

_WINDOWS: Final = frozenset({"spec.budget.window"})
"""Fields that may name a time zone."""
_MAX_FILE_BYTES: Final = 4 * 1024 * 1024
"""Ten times the largest valid route; a file beyond it is another file."""


def load_route(path: Path) -> HybridRoute:
    """Return the route in the file. Raises `InvalidDocumentError` with every problem of file and content."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise _refuse(path, "is larger than 4 MiB, so it is no HybridRoute: check the path")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise _refuse(path, "does not exist: check the path") from None
    except IsADirectoryError:
        raise _refuse(path, "is a directory: name the file in it") from None
    except PermissionError:
        raise _refuse(path, "cannot be read: check its permissions") from None
    except UnicodeDecodeError:
        raise _refuse(path, "is not UTF-8 text: save it as UTF-8, or check the path") from None
    return parse_route(text, str(path))


def parse_route(text: str, file: str) -> HybridRoute:
    """Return the route that the text holds; `file` is its name in problems. Raises `InvalidDocumentError`."""
    document, problems = parse_yaml_document(text, file)
    if document is None:
        raise InvalidDocumentError(problems)
    if not isinstance(document.value, dict):
        message = "holds no fields: start it with apiVersion, kind, metadata and spec"
        raise InvalidDocumentError([*problems, Problem(file, 1, 1, "", message)])
    kind = document.value.get("kind")
    if isinstance(kind, str) and kind != KIND and not is_like(kind, KIND):
        mark = document.mark(("kind",))
        message = f"is {kind}, but only {KIND} is read here: check which file this is"
        raise InvalidDocumentError([*problems, Problem(file, mark.line, mark.column, "kind", message)])
    try:
        route = HybridRoute.model_validate(document.value)
    except ValidationError as error:
        problems += _problems_of(error, document, file, already=frozenset(p.path for p in problems))
        raise InvalidDocumentError(problems) from None
    if problems:
        raise InvalidDocumentError(problems)
    return route


def check_engine(route: HybridRoute, path: Path) -> list[Problem]:
    """Return what the engine itself says of its arguments, where it is installed. Takes seconds."""
    found = check_arguments(route.spec.slm.engine_args)
    if found is None:
        return []
    location: Location = ("spec", "slm", "engineArgs", *([found.name] if found.name else []))
    document, _ = parse_yaml_document(path.read_text(encoding="utf-8-sig"), str(path))
    line, column = 0, 0
    if document is not None:
        mark = document.mark(location)
        line, column = mark.line, mark.column
    return [Problem(str(path), line, column, format_location(location), found.message)]


def cluster_only_fields(route: HybridRoute) -> list[str]:
    """Return the paths of the fields that were given and that mean nothing on one machine."""
    return [format_location(location) for location in cluster_only_paths(route)]


def one_machine_refusals(route: HybridRoute) -> list[str]:
    """Return why `up` will refuse a route that is valid: what it has is for a cluster alone. A sentence a field."""
    spec = route.spec
    uris = {"model.uri": spec.slm.model.uri} | {f"adapters.{n}": uri for n, uri in spec.slm.adapters.items()}
    refusals = [
        f"spec.slm.{field}: only a cluster has claims: give the path of the file or folder here"
        for field, uri in uris.items()
        if parse_claim(uri) is not None
    ]
    if spec.auth is not None and spec.auth.api_keys_file is None:
        refusals.append("spec.auth.apiKeysFile: is missing, and one machine reads keys from a file: name it")
    if spec.routing.policy is not None and spec.routing.policy.file is None:
        refusals.append(
            "spec.routing.policy.file: is missing, and one machine reads policies from files: name it"
        )
    return refusals


def _refuse(path: Path, message: str) -> InvalidDocumentError:
    return InvalidDocumentError([Problem(str(path), 0, 0, "", message)])


def _problems_of(
    error: ValidationError, document: YamlDocument, file: str, *, already: frozenset[str]
) -> list[Problem]:
    """Word each error. Errors about what was reported while reading, such as an empty field, add nothing."""
    problems = []
    violations: list[Violation] = []
    for item in error.errors(include_url=False):
        if item["type"] == RULES_ERROR:
            violations += item["ctx"]["violations"]
            continue
        location = item["loc"]
        if item["type"] == "too_short" and item["input"]:
            continue  # pydantic counts valid items alone, and the invalid ones have errors of their own
        told = location[:-1] if item["type"] == "missing" else location
        if already & {format_location(location), format_location(told)}:
            continue
        message, hint = word_error(item)
        mark = document.mark(location)
        problems.append(Problem(file, mark.line, mark.column, format_location(location), message, hint))
    for violation in violations or _partly_broken_rules(document.value):
        mark = document.mark(violation.location)
        path = format_location(violation.location)
        hint = suggest_zone(str(_value_at(document.value, violation.location))) if path in _WINDOWS else ""
        problems.append(Problem(file, mark.line, mark.column, path, violation.message, hint))
    return problems


def _value_at(value: Any, location: Location) -> Any:
    for segment in location:
        value = value[segment]
    return value


def _partly_broken_rules(document: dict[str, Any]) -> list[Violation]:
    """Return the rules broken by those parts of an invalid document that are valid by themselves."""
    checked = [
        rule.check(location, value)
        for rule in RULES
        for path in rule.paths
        for location, raw in _raw_values_at(document, (), path.split("."))
        if (value := _parse_part(path, raw)) is not None
    ]
    return [violation for violation in checked if violation is not None]


def _raw_values_at(value: Any, location: Location, segments: list[str]) -> list[tuple[Location, Any]]:
    if not segments:
        return [(location, value)]
    segment, *rest = segments
    steps: list[tuple[str | int, Any]] = []
    if segment == "*":
        steps = list(enumerate(value)) if isinstance(value, list) else []
    elif segment == "{*}":
        steps = [(key, (key, item)) for key, item in value.items()] if isinstance(value, dict) else []
    elif isinstance(value, dict) and segment in value:
        steps = [(segment, value[segment])]
    return [found for key, item in steps for found in _raw_values_at(item, (*location, key), rest)]


def _parse_part(path: str, raw: Any) -> Any | None:
    """Return the value that a rule for the path gets, or None where the raw one is not even of its type."""
    if path.endswith(".{*}"):
        return raw if isinstance(raw[1], str) else None
    if path.endswith(".*"):
        return raw if isinstance(raw, str) else None
    found = find_field(HybridRoute, tuple(path.split(".")))
    if found is None:
        raise LookupError(f"{path} is no field")
    annotation: Any = found.info.annotation
    adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    try:
        return adapter.validate_python(raw)
    except ValidationError:
        return None
