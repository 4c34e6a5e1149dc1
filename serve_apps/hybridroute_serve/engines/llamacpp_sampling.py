"""The bounds of the fields that steer sampling, as OpenAI has them. Pure.

llama.cpp takes almost any value of them and makes of it what it can: a temperature of 99 is noise, a `stop` that is an
object is ignored; what it refuses it refuses in the words of its JSON library. So they are checked before it is asked.
What OpenAI refuses is the request's fault on any path; samplers of llama.cpp's own may be bounded otherwise elsewhere.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import Raw

from hybridroute_api.vocabulary import ErrorCode
from hybridroute_serve.wire.errors import InvalidRequest

__all__ = ["OWN_SAMPLERS", "SAMPLING_FIELDS", "check_sampling"]

_NUMBERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"temperature": (0, 2), "top_p": (0, 1), "presence_penalty": (-2, 2), "frequency_penalty": (-2, 2)}
)
OWN_SAMPLERS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"top_k": (-1, 1000), "min_p": (0, 1), "repeat_penalty": (0.1, 10)}
)
"""Samplers that clients of llama.cpp and vLLM expect, and their bounds. -1 and 0 of `top_k`: all tokens."""
SAMPLING_FIELDS = (*_NUMBERS, "seed", "stop", "logit_bias")
"""OpenAI's, in the order in which they are checked."""

_MOST_STOPS = 4
_MOST_BIAS = 100
_SEEDS = (-(2**63), 2**63 - 1)


def check_sampling(fields: Mapping[str, Raw]) -> None:
    """Raise `InvalidRequest` for the first field that is out of its bounds; null is as absent."""
    for name in (*SAMPLING_FIELDS, *OWN_SAMPLERS):
        value = _read(fields.get(name))
        if value is None:
            continue
        if name in OWN_SAMPLERS:
            low, high = OWN_SAMPLERS[name]
            if not _is_between(value, low, high):
                message = f"The small model takes '{name}' from {low:g} to {high:g}."
                raise InvalidRequest(name, message, code=ErrorCode.NOT_SERVED_BY_SLM)
            continue
        expected = _expected(name, value)
        if expected is not None:
            raise InvalidRequest(name, f"Invalid '{name}': expected {expected}.")


def _read(raw: Raw | None) -> Any:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError:  # a number beyond what 64 bits of floating point hold
        return math.inf


def _expected(name: str, value: Any) -> str | None:
    """Return what the field is to be, or None where it is that."""
    if name in _NUMBERS:
        low, high = _NUMBERS[name]
        return None if _is_between(value, low, high) else f"a number from {low:g} to {high:g}"
    if name == "seed":
        is_seed = isinstance(value, int) and _is_between(value, *_SEEDS)
        return None if is_seed else "an integer of 64 bits"
    if name == "stop":
        return None if _is_stop(value) else f"a string or an array of up to {_MOST_STOPS} strings"
    return None if _is_bias(value) else f"an object of numbers from -{_MOST_BIAS} to {_MOST_BIAS} by token"


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_stop(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= _MOST_STOPS and all(isinstance(item, str) for item in value)
    return isinstance(value, str)


def _is_bias(value: Any) -> bool:
    return isinstance(value, dict) and all(
        token.isdecimal() and _is_between(bias, -_MOST_BIAS, _MOST_BIAS) for token, bias in value.items()
    )
