"""The most that a request can cost, before it is sent: prompt and capped output at list price, rounded up.

Prompt: a byte-level tokenizer makes at most one token of a byte, so the body's bytes bound its text, and JSON's
own syntax pays for each message's frame. Added: what templates put in by themselves, tool definitions and
schemas twice more (templates print them indented), and what Unicode normalisation can lengthen.
Output: the request's own cap, or the one that is sent for it, times the answers asked for.

A request has no bound when something besides these tokens may be billed: tools that run at the provider, stored
context, files, audio, images of unknown size, dearer service tiers, or any parameter that is not listed here
as free. Such a request is refused on a budgeted path, with the parameter's name. Pure; used by the llm-proxy.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hybridroute_api.serving import TokenPrices
from hybridroute_api.vocabulary import Api

__all__ = ["Bound", "BoundTerms", "Unbounded", "bound_request"]

_TOKENS_PER_PRICE = 1_000_000

_FREE_PARAMETERS = frozenset(
    {
        "best_of", "chat_template_kwargs", "frequency_penalty", "function_call", "functions", "logit_bias",
        "logprobs", "max_completion_tokens", "max_tokens", "messages", "metadata", "min_p", "model", "n",
        "parallel_tool_calls", "presence_penalty", "prompt", "prompt_cache_key", "reasoning_effort",
        "repetition_penalty", "response_format", "safety_identifier", "seed", "stop", "stream",
        "stream_options", "suffix", "temperature", "tool_choice", "tools", "top_k", "top_logprobs", "top_p",
        "user", "verbosity",
    }
)  # fmt: skip
"""Top-level parameters that change what is generated but not what a token costs."""

_FREE_VALUES: Mapping[str, tuple[object, ...]] = {
    "store": (False,),
    "service_tier": ("default", "flex"),
    "modalities": (["text"],),
    "echo": (False,),
    "background": (False,),
}
"""Parameters that are free with these values alone."""

_BILLED_PARAMETERS: Mapping[str, str] = {
    "audio": "audio output is billed apart",
    "background": "a background answer outlives its request",
    "conversation": "stored context is billed as prompt",
    "echo": "the prompt may be billed again",
    "modalities": "other outputs than text are billed apart",
    "prediction": "rejected prediction tokens are billed",
    "previous_response_id": "stored context is billed as prompt",
    "service_tier": "another tier has other prices",
    "store": "stored context is billed",
    "web_search_options": "searches are billed apart",
}

_MESSAGE_KEYS = frozenset(
    {
        "annotations", "content", "function_call", "name", "reasoning", "reasoning_content", "refusal",
        "role", "tool_call_id", "tool_calls",
    }
)  # fmt: skip
_TEXT_PART_KEYS = frozenset({"type", "text", "refusal"})
_TOOL_TYPES = frozenset({"function", "custom"})
"""Tools that run at the client."""
_TOOL_KEYS = _TOOL_TYPES | {"type"}
_DEFINITIONS = frozenset({"tools", "functions", "response_format"})


@dataclass(frozen=True, slots=True)
class BoundTerms:
    """What is known of an upstream besides its prices."""

    output_cap_tokens: int
    """Sent with a request that has no cap of its own."""
    template_tokens: int = 512
    """What a chat template adds once: a default system prompt, instructions on tools."""
    message_tokens: int = 16
    """What it adds around each message, beyond the bytes of the message's own JSON."""
    image_tokens: int | None = None
    """The most that one image costs at this upstream; None: requests with images have no bound."""
    free_parameters: frozenset[str] = frozenset()
    """Further parameters that this upstream does not bill."""


class Bound(msgspec.Struct, frozen=True):
    """The most that a request can cost."""

    prompt_tokens: int
    output_tokens: int
    nano_usd: int


class Unbounded(msgspec.Struct, frozen=True):
    """Why a request's cost has no upper bound."""

    parameter: str
    """Where: `tools[0].type`."""
    reason: str


class _NoBoundError(Exception):
    """Carries the finding out of the walk over the body."""

    def __init__(self, parameter: str, reason: str) -> None:
        super().__init__(f"{parameter}: {reason}")
        self.finding = Unbounded(parameter, reason)


def bound_request(body: bytes, api: Api, prices: TokenPrices, terms: BoundTerms) -> Bound | Unbounded:
    """Bound the cost of one attempt with this body, before or after its edits."""
    try:
        return _bound(body, api, prices, terms)
    except _NoBoundError as found:
        return found.finding
    except RecursionError:
        return Unbounded("body", "it is nested too deeply")


def _bound(body: bytes, api: Api, prices: TokenPrices, terms: BoundTerms) -> Bound:
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _NoBoundError("body", "it is not valid JSON") from None
    if not isinstance(fields, dict):
        raise _NoBoundError("body", "it is not a JSON object")
    given = {name: value for name, value in fields.items() if value is not None}
    _check_parameters(given, terms)
    prompt_tokens = (
        terms.template_tokens
        + _bound_text(body, fields)
        + _bound_messages(given.get("messages", []), terms)
        + _bound_definitions(given)
    )
    output_tokens = _output_cap(given, terms) * _answers(given, api)
    dearest_input = max(prices.input_nano_usd_per_million, prices.cached_input_nano_usd_per_million or 0)
    dearest_output = max(prices.output_nano_usd_per_million, prices.reasoning_nano_usd_per_million or 0)
    cost = prompt_tokens * dearest_input + output_tokens * dearest_output
    return Bound(prompt_tokens, output_tokens, -(-cost // _TOKENS_PER_PRICE))


def _check_parameters(given: Mapping[str, Any], terms: BoundTerms) -> None:
    if _FREE_PARAMETERS.issuperset(given):
        return
    for name, value in given.items():
        if name in _FREE_PARAMETERS or name in terms.free_parameters:
            continue
        if any(value == free and type(value) is type(free) for free in _FREE_VALUES.get(name, ())):
            continue
        raise _NoBoundError(name, _BILLED_PARAMETERS.get(name, "it is not known to be free of charge"))


def _bound_text(body: bytes, fields: Any) -> int:
    """Return the bytes of the body, or of its text after the normalisation that lengthens it most."""
    if body.isascii() and b"\\u" not in body:
        return len(body)
    text = msgspec.json.encode(fields).decode()
    lengths = [len(unicodedata.normalize(form, text).encode()) for form in ("NFD", "NFKD")]
    return max(len(body), *lengths)


def _bound_messages(messages: Any, terms: BoundTerms) -> int:
    tokens = 0
    for number, message in enumerate(_list_of_objects(messages, "messages")):
        for name, value in () if _MESSAGE_KEYS.issuperset(message) else message.items():
            if value is not None and name not in _MESSAGE_KEYS:
                reason = (
                    "stored audio is billed" if name == "audio" else "it is not known to be free of charge"
                )
                raise _NoBoundError(f"messages[{number}].{name}", reason)
        tokens += terms.message_tokens
        content = message.get("content")
        if isinstance(content, list):
            tokens += _bound_parts(content, f"messages[{number}].content", terms)
        elif content is not None and not isinstance(content, str):
            raise _NoBoundError(f"messages[{number}].content", "it is neither text nor a list of parts")
    return tokens


def _bound_parts(parts: Sequence[Any], where: str, terms: BoundTerms) -> int:
    tokens = 0
    for number, part in enumerate(_list_of_objects(parts, where)):
        kind = part.get("type")
        if kind == "image_url" and terms.image_tokens is not None:
            tokens += terms.image_tokens
        elif kind not in ("text", "refusal"):
            raise _NoBoundError(f"{where}[{number}].type", f"the cost of {kind!r} is not known beforehand")
        elif not _TEXT_PART_KEYS.issuperset(part):
            odd = next(iter(part.keys() - _TEXT_PART_KEYS))
            raise _NoBoundError(f"{where}[{number}].{odd}", "it is not known to be free of charge")
    return tokens


def _bound_definitions(given: Mapping[str, Any]) -> int:
    """Return the bytes of tools and schemas twice more, for indents; refuse tools that run at the provider."""
    if _DEFINITIONS.isdisjoint(given):
        return 0
    for number, tool in enumerate(_list_of_objects(given.get("tools", []), "tools")):
        if tool.get("type") not in _TOOL_TYPES:
            raise _NoBoundError(
                f"tools[{number}].type", f"{tool.get('type')!r} runs at the provider and is billed"
            )
        if not _TOOL_KEYS.issuperset(tool):
            odd = next(iter(tool.keys() - _TOOL_KEYS))
            raise _NoBoundError(f"tools[{number}].{odd}", "it is not known to be free of charge")
    definitions = [given[name] for name in ("tools", "functions", "response_format") if name in given]
    return 2 * _bound_text(msgspec.json.encode(definitions), definitions)


def _output_cap(given: Mapping[str, Any], terms: BoundTerms) -> int:
    cap = 0
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            cap = max(cap, _positive(given[name], name))
    return cap or terms.output_cap_tokens


def _answers(given: Mapping[str, Any], api: Api) -> int:
    answers = 1
    for name in ("n", "best_of"):
        if name in given:
            answers = max(answers, _positive(given[name], name))
    prompt = given.get("prompt")
    if api is Api.COMPLETIONS and isinstance(prompt, list) and not _is_token_array(prompt):
        answers *= max(1, len(prompt))
    return answers


def _is_token_array(prompt: Sequence[Any]) -> bool:
    return all(isinstance(item, int) for item in prompt)


def _positive(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _NoBoundError(name, "it is not a positive integer")
    return value


def _list_of_objects(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise _NoBoundError(where, "it is not a list of objects")
    for item in value:
        if not isinstance(item, dict):
            raise _NoBoundError(where, "it is not a list of objects")
    return value
