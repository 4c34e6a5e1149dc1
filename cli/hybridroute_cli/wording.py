"""Words for what the models refuse: one sentence that says what is wrong and what to do, and the field's meaning.

Values are never repeated, since a key may have been pasted into the wrong field; names of fields are.
"""

import difflib
import re
import zoneinfo
from typing import Any, Final

from pydantic_core import ErrorDetails

from hybridroute_api.v1alpha1.fields import choices_of, find_field, walk_fields
from hybridroute_api.v1alpha1.model import FORMS
from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_cli.problems import Location, format_location

__all__ = ["is_like", "suggest_zone", "word_error"]

_WRONG_TYPE: Final = {
    "string_type": "must be text: put quotes around it",
    "int_type": "must be a whole number, without quotes",
    "int_parsing_size": "is too large a number: use a smaller one",
    "bool_type": "must be true or false, without quotes",
    "tuple_type": "must be a list: write each item on a line of its own, after '- '",
    "model_type": "must be a set of fields: write them on indented lines, as 'name: value'",
    "model_attributes_type": "must be a set of fields: write them on indented lines, as 'name: value'",
    "dict_type": "must be a set of entries: write them on indented lines, as 'name: value'",
}

_SIMILARITY: Final = 0.7
"""Two letters wrong in a name of eight are forgiven; another word is not."""


def word_error(error: ErrorDetails) -> tuple[str, str]:
    """Return the message and the hint for one of pydantic's errors about a HybridRoute."""
    location, kind, context = error["loc"], error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _word_unknown_field(location), ""
    found = find_field(HybridRoute, location)
    hint = found.description if found is not None else ""
    if kind == "missing":
        return "is required and missing: add it", hint
    if kind in _WRONG_TYPE:
        return _WRONG_TYPE[kind], hint
    if kind in ("enum", "literal_error") and found is not None:
        return _word_choices(choices_of(found.info.annotation), error["input"]), hint
    if kind in ("greater_than_equal", "less_than_equal") and found is not None:
        return found.range_message, hint
    if kind == "string_pattern_mismatch":
        form = FORMS.get(context["pattern"])
        return (f"must be {form}" if form else "is not in the form that is needed"), hint
    if kind in ("string_too_long", "too_long"):
        unit = "characters: shorten it" if kind == "string_too_long" else "items: remove some"
        return f"holds more than {context['max_length']} {unit}", hint
    if kind in ("string_too_short", "too_short"):
        return "is empty: fill it in", hint
    if kind == "value_error":
        return str(context["error"]), hint
    return f"is refused ({error['msg'].lower()}): see what the field means", hint


def is_like(word: str, other: str) -> bool:
    """Return whether one word is probably the other, mistyped."""
    return _plain(word) == _plain(other) or bool(
        difflib.get_close_matches(_plain(word), [_plain(other)], n=1, cutoff=0.75)
    )


def suggest_zone(window: str) -> str:
    """Say which time zone a window was probably to name; empty where it names none, or one that there is."""
    _, _, name = window.partition("@")
    zones = zoneinfo.available_timezones()
    if not name or name in zones:
        return ""
    near = _nearest(name, sorted(zones))
    return "there is no such time zone" + (f": did you mean {near}?" if near is not None else "")


def _word_unknown_field(location: Location) -> str:
    name = str(location[-1])
    parent = () if len(location) == 1 else _pattern(location[:-1])
    siblings = [field.path[-1] for field in walk_fields(HybridRoute) if field.path[:-1] == parent]
    elsewhere = [field.path for field in walk_fields(HybridRoute) if _plain(field.path[-1]) == _plain(name)]
    if not any(_plain(sibling) == _plain(name) for sibling in siblings) and elsewhere:
        places = " or ".join(_format_pattern(path) for path in elsewhere[:3])
        return f"is not a field here: did you mean {places}?"
    near = _nearest(name, siblings)
    if near is not None:
        return f"is not a field here: did you mean {near}?"
    return f"is not a field here: remove it, or use one of {', '.join(siblings)}"


def _word_choices(choices: tuple[str, ...], given: Any) -> str:
    near = _nearest(given, choices) if isinstance(given, str) else None
    if len(choices) == 1:
        return f"must be {choices[0]}"
    listed = f"must be {', '.join(choices[:-1])} or {choices[-1]}"
    return f"{listed}: did you mean {near}?" if near is not None else listed


def _nearest(name: str, candidates: list[str] | tuple[str, ...]) -> str | None:
    by_plain = {_plain(candidate): candidate for candidate in candidates}
    matches = difflib.get_close_matches(_plain(name), list(by_plain), n=1, cutoff=_SIMILARITY)
    return by_plain[matches[0]] if matches else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _pattern(location: Location) -> tuple[str, ...]:
    return tuple("*" if isinstance(segment, int) else segment for segment in location)


def _format_pattern(path: tuple[str, ...]) -> str:
    return format_location(path).replace('["*"]', "[]")
