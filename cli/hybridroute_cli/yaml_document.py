"""Reads YAML text into plain values that remember their lines, and says in plain words why it cannot.

It knows nothing of HybridRoute. It is stricter than YAML where YAML surprises: a key given twice, an empty value and
a tag are problems, a date is text, and aliases cannot blow a small file up.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from hybridroute_cli.problems import Location, Problem, format_location

__all__ = ["Mark", "YamlDocument", "parse_yaml_document"]

_MAX_NODES: Final = 100_000
"""A route with a thousand examples has 2,000 nodes; aliases can make billions out of a few lines."""

_TAG: Final = "tag:yaml.org,2002:"
_MAY_BE_EMPTY: Final = ("metadata", "status")
"""Parts that other tools write, with nulls in them."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A position in the file, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """The one document of a file."""

    value: Any
    """Mappings, lists, text, numbers, booleans; values that could not be read are left out."""
    marks: dict[Location, Mark]
    """Where each field and item starts."""

    def mark(self, location: Location) -> Mark:
        """Return where the location is, or the nearest thing around it that is in the file."""
        while location and location not in self.marks:
            location = location[:-1]
        return self.marks.get(location, Mark(1, 1))


def parse_yaml_document(text: str, file: str) -> tuple[YamlDocument | None, list[Problem]]:
    """Return the document and the problems found on the way. No document: it cannot be read at all."""
    try:
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        return None, [_explain_syntax(error, text, file)]
    except yaml.reader.ReaderError as error:
        position = text[: error.position]
        line, column = position.count("\n") + 1, len(position) - position.rfind("\n")
        message = "holds a control character, which YAML does not allow: remove it"
        return None, [Problem(file, line, column, "", message)]
    except RecursionError:
        return None, [Problem(file, 1, 1, "", "is nested too deeply to be a HybridRoute: check the brackets")]
    documents = [node for node in nodes if not _is_null(node)]
    if not documents:
        message = "holds nothing: start it with apiVersion, kind, metadata and spec, as in examples/hybridroute.yaml"
        return None, [Problem(file, 1, 1, "", message)]
    problems = []
    if len(documents) > 1:
        mark = _mark_of(documents[1])
        message = f"starts a second document ({len(documents)} in all): keep one HybridRoute in each file"
        problems.append(Problem(file, mark.line, mark.column, "", message))
    reader = _NodeReader(file)
    try:
        value = reader.read(documents[0], ())
    except _TooManyNodesError as error:
        message = (
            "holds more values than any HybridRoute, perhaps by aliases of aliases: write the values out"
        )
        return None, [Problem(file, error.mark.line, error.mark.column, "", message)]
    return YamlDocument(value, reader.marks), [*problems, *reader.problems]


class _TooManyNodesError(Exception):
    """Aliases or sheer size make the document too large to go through."""

    def __init__(self, mark: Mark) -> None:
        self.mark = mark
        super().__init__(f"more than {_MAX_NODES} values at line {mark.line}")


class _Skip:
    """Stands for a value that was reported and is left out."""


_SKIP: Final = _Skip()


@dataclass(slots=True)
class _NodeReader:
    """Turns nodes into values, once."""

    file: str
    marks: dict[Location, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _count: int = 0
    _constructor: yaml.SafeLoader = field(default_factory=lambda: yaml.SafeLoader(""))

    def read(self, node: yaml.Node, location: Location) -> Any:
        """Return the node's value, or `_SKIP` after reporting why there is none."""
        self.marks.setdefault(location, _mark_of(node))
        self._count += 1
        if self._count > _MAX_NODES:
            raise _TooManyNodesError(_mark_of(node))
        if id(node) in self._open:
            return self._report(node, location, "contains itself through an alias: write the values out")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._read_mapping(node, location)
            if isinstance(node, yaml.SequenceNode):
                return self._read_sequence(node, location)
            return self._read_scalar(node, location)
        finally:
            self._open.discard(id(node))

    def _read_mapping(self, node: yaml.MappingNode, location: Location) -> Any:
        if node.tag != f"{_TAG}map":
            return self._refuse_tag(node, location)
        values: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._report(key_node, location, "has a list or a map as a field's name: write a plain name")
                continue
            if key_node.tag == f"{_TAG}merge":
                self._report(
                    key_node, location, "uses a merge key (<<), which is not read: write the fields out"
                )
                continue
            key, place = key_node.value, (*location, key_node.value)
            if key in first_lines:
                message = f"is given twice, first on line {first_lines[key]}: keep one of them"
                self._report(key_node, place, message)
                continue
            first_lines[key] = _mark_of(key_node).line
            self.marks[place] = _mark_of(key_node)
            value = self.read(value_node, place)
            if value is not _SKIP:
                values[key] = value
        return values

    def _read_sequence(self, node: yaml.SequenceNode, location: Location) -> Any:
        if node.tag != f"{_TAG}seq":
            return self._refuse_tag(node, location)
        values = [self.read(item, (*location, index)) for index, item in enumerate(node.value)]
        # A reported item keeps its place, so that the indices of the others stay true.
        return [None if value is _SKIP else value for value in values]

    def _read_scalar(self, node: yaml.Node, location: Location) -> Any:
        match node.tag.removeprefix(_TAG):
            case "str" | "timestamp" | "value":
                return node.value
            case "int" | "float" | "bool":
                try:
                    return self._constructor.construct_object(node)
                except (ValueError, KeyError, OverflowError):
                    return self._report(
                        node, location, "is not what its tag or form says: put quotes around it"
                    )
            case "null":
                if location[:1] and location[0] in _MAY_BE_EMPTY:
                    return None
                return self._report(node, location, "is empty: give it a value, or remove it")
            case _:
                return self._refuse_tag(node, location)

    def _refuse_tag(self, node: yaml.Node, location: Location) -> _Skip:
        return self._report(node, location, "has a YAML tag (!…), which is not read: remove the tag")

    def _report(self, node: yaml.Node, location: Location, message: str) -> _Skip:
        mark = _mark_of(node)
        self.problems.append(Problem(self.file, mark.line, mark.column, format_location(location), message))
        return _SKIP


def _is_null(node: yaml.Node | None) -> bool:
    return node is None or node.tag == f"{_TAG}null"


def _mark_of(node: yaml.Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


_SYNTAX: Final = (
    # (part of PyYAML's text, whether the context's start is the place to look at, what to do)
    (
        "mapping values are not allowed",
        False,
        "has a ':' too many: check the indentation, quote text with ': ' in it",
    ),
    (
        "could not find expected ':'",
        True,
        "is not a 'name: value' line: add the ':', or quote text of many lines",
    ),
    (
        "expected <block end>",
        False,
        "cannot follow what is before it: give one level one indentation, close every quote",
    ),
    ("unexpected end of stream", True, "opens a quote that is never closed: add the closing quote"),
    (
        "expected ',' or",
        True,
        "opens a bracket that is never closed, or lacks a comma inside: check the line",
    ),
    (
        "while parsing a flow node",
        True,
        "opens a bracket that is never closed, or lacks a value inside: check the line",
    ),
    (
        "undefined alias",
        False,
        "starts with '*', which refers to an anchor that is not there: quote the text",
    ),
    ("duplicate anchor", False, "defines an anchor twice: write the values out"),
    ("unknown escape character", False, "has a '\\' that YAML does not know: use single quotes"),
    (
        "that cannot start any token",
        False,
        "starts with a character that YAML reserves: put quotes around the text",
    ),
    ("undefined tag handle", False, "has a YAML tag (!…), which is not read: remove the tag"),
)


def _explain_syntax(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    raw = f"{error.context or ''} {error.problem or ''}"
    mark = error.problem_mark or error.context_mark
    lines = text.split("\n")
    if mark is not None and mark.line < len(lines):
        indentation = lines[mark.line][: len(lines[mark.line]) - len(lines[mark.line].lstrip())]
        if "\t" in indentation:
            column = indentation.index("\t") + 1
            message = "is indented with a tab: use spaces, two for each level"
            return Problem(file, mark.line + 1, column, "", message)
    for part, at_context, message in _SYNTAX:
        if part in raw:
            place = (error.context_mark if at_context else None) or mark
            return (
                Problem(file, place.line + 1, place.column + 1, "", message)
                if place
                else Problem(file, 0, 0, "", message)
            )
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    return Problem(
        file, line, column, "", f"is not valid YAML here ({error.problem}): check the line and the one before"
    )
