"""Asks an engine for each token's likeliest alternatives, reads their margins, and takes them out again. Pure.

A token's margin is the difference of probability between the two likeliest tokens at its place: 1 where the model saw
one way to go on, 0 where two were as likely. What is left of an answer without them is, byte by byte, what the engine
would have sent had nobody asked. Used by the SLM application for a cascade.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec import Raw

__all__ = ["NULL", "Margins", "ask_for_alternatives", "take_margins"]

ALTERNATIVES = 3
"""vLLM lists the token that was drawn first, likely or not: the two likeliest are among the first three."""

NULL = b"null"

_Fields = dict[str, Raw]
_FIELDS = msgspec.json.Decoder(_Fields)
_CHOICES = msgspec.json.Decoder(list[_Fields])
_FIELD = b'"logprobs"'
"""In generated text the quotes would be escaped."""


class _Alternative(msgspec.Struct):
    logprob: float | None = None
    """None, where the engine could not write minus infinity."""


class _Token(msgspec.Struct):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


_LOGPROBS = msgspec.json.Decoder(_Logprobs)


@dataclass(frozen=True, slots=True)
class Margins:
    """What one answer, or one chunk of a stream, says of its tokens."""

    document: bytes
    """The answer or chunk, without what was to be taken out."""
    margins: tuple[float, ...] = ()
    """Of each token that has two alternatives, 0 to 1."""
    tokens: int = 0
    """Tokens that are told of, with alternatives or without."""


def ask_for_alternatives(body: bytes) -> bytes:
    """Return the body of a chat request that asks for alternatives. It must be a JSON object."""
    fields = _FIELDS.decode(body)
    fields |= {"logprobs": Raw(b"true"), "top_logprobs": Raw(str(ALTERNATIVES).encode())}
    return msgspec.json.encode(fields)


def take_margins(document: bytes, *, hide: bool, bare: bytes | None) -> Margins:
    """Read a chat answer or chunk. `hide` takes its logprobs out.

    `bare` is what the engine has in their place when nobody asks; None where the field is not there then. What cannot
    be read is passed as it is.
    """
    if _FIELD not in document:
        return Margins(document)
    try:
        fields = _FIELDS.decode(document)
        choices = _CHOICES.decode(fields.get("choices", Raw(b"[]")))
        telling = [choice for choice in choices if _is_set(choice.get("logprobs"))]
        told = [token for choice in telling for token in _LOGPROBS.decode(choice["logprobs"]).content or ()]
    except msgspec.MsgspecError:
        return Margins(document)
    margins = tuple(margin for token in told if (margin := _margin(token.top_logprobs or ())) is not None)
    if hide and telling:
        fields["choices"] = Raw(msgspec.json.encode([_without(choice, bare) for choice in choices]))
        document = msgspec.json.encode(fields)
    return Margins(document, margins, len(told))


def _is_set(value: Raw | None) -> bool:
    return value is not None and bytes(value) != NULL


def _without(choice: _Fields, bare: bytes | None) -> _Fields:
    if not _is_set(choice.get("logprobs")):
        return choice
    if bare is None:
        return {name: value for name, value in choice.items() if name != "logprobs"}
    return {**choice, "logprobs": Raw(bare)}


def _margin(alternatives: Sequence[_Alternative]) -> float | None:
    if len(alternatives) < 2:
        return None
    first, second = sorted((_probability(one.logprob) for one in alternatives), reverse=True)[:2]
    return first - second


def _probability(logprob: float | None) -> float:
    return 0.0 if logprob is None else math.exp(min(0.0, logprob))
