"""How llama.cpp's server differs from OpenAI's. Pure.

A request whose client is gone is noticed by llama.cpp when it writes to the closed connection, or when nothing
at all happened in the server for a second. So every request is streamed, and asks for an event after each batch of
its prompt: otherwise a unary answer, or a long prompt, runs to its end for nobody while other requests are served.

llama.cpp has many fields of its own, and some win over OpenAI's: `n_predict` over `max_tokens`, `n_probs` over
`top_logprobs`; others reach into its state (`id_slot`, `cache_prompt`, `lora`). So only known fields pass.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec import Raw

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.engines.llamacpp_grammar import explain_heavy_field
from hybridroute_serve.engines.llamacpp_sampling import OWN_SAMPLERS, SAMPLING_FIELDS, check_sampling
from hybridroute_serve.wire.errors import ErrorAnswer, InvalidRequest
from hybridroute_serve.wire.sse import split_events

__all__ = ["LlamaCppDialect"]

_SAMPLING = (*SAMPLING_FIELDS, "n")
_PASSED: Mapping[Api, frozenset[str]] = MappingProxyType(
    {
        Api.CHAT_COMPLETIONS: frozenset(
            {
                *("model", "messages", *_SAMPLING, "logprobs", "top_logprobs"),
                *("response_format", "tools", "tool_choice", "parallel_tool_calls"),
            }
        ),
        Api.COMPLETIONS: frozenset({"model", "prompt", *_SAMPLING}),
    }
)
"""OpenAI's fields that llama.cpp reads, without the caps: these are put into one."""
_CAPS: Mapping[Api, tuple[str, ...]] = MappingProxyType(
    {Api.CHAT_COMPLETIONS: ("max_completion_tokens", "max_tokens"), Api.COMPLETIONS: ("max_tokens",)}
)
"""The first that is set counts, as in `wire.requests`."""
_LARGEST_CAP = 2**31 - 1
"""llama.cpp keeps 32 bits: a larger one would wrap to a negative number, which means no cap."""
_NULL = b"null"

_TRUE = Raw(b"true")
_ASK_USAGE = Raw(b'{"include_usage":true}')
_PROGRESS = b'"prompt_progress"'
"""In generated text the quotes would be escaped."""
_CONTEXT_EXCEEDED = "exceed_context_size_error"
_INVALID = "invalid_request_error"
_SCHEMA_REFUSALS = ("JSON schema", "parse grammar", "generate parser")
"""Parts of what llama.cpp says of a schema, of an answer or a tool, that it cannot turn into a grammar."""
_READING_FAILED = "Failed to parse"
"""Begins what llama.cpp says, with a 500, of messages and tools that it cannot read."""
_LIBRARY_WORDS = "[json.exception."
_NAMED_FIELD = re.compile(r"Field '(?P<name>\w+)': ")
_COMPLETION = b'"object":"text_completion"'
_CHAT_ID, _COMPLETION_ID = b'"id":"chatcmpl-', b'"id":"cmpl-'

_FIELDS_DECODER = msgspec.json.Decoder(dict[str, Raw])


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""


class _Refusal(msgspec.Struct):
    error: _Error


class LlamaCppDialect:
    """llama.cpp's server, build b11549."""

    streams_always = True
    bare_logprobs: bytes | None = None

    def prepare_body(self, body: bytes, api: Api) -> bytes:
        """Ask for a stream with usage and an event after each batch of the prompt. Raises `InvalidRequest`."""
        asked = _FIELDS_DECODER.decode(body)
        heavy = explain_heavy_field(asked)
        if heavy is not None:
            raise InvalidRequest(*heavy, code=ErrorCode.NOT_SERVED_BY_SLM)
        check_sampling(asked)
        passed = {name: value for name, value in asked.items() if name in _PASSED[api]}
        passed |= {name: asked[name] for name in OWN_SAMPLERS if _is_set(asked.get(name))}
        cap = next((asked[name] for name in _CAPS[api] if _is_set(asked.get(name))), None)
        if cap is not None:
            passed["max_tokens"] = Raw(str(min(int(bytes(cap)), _LARGEST_CAP)).encode())
        passed |= {"stream": _TRUE, "stream_options": _ASK_USAGE, "return_progress": _TRUE}
        return msgspec.json.encode(passed)

    def clean_events(self, block: bytes) -> bytes:
        """Drop progress events, and give completions OpenAI's kind of id: llama.cpp names all as chats."""
        if _PROGRESS in block:
            block = b"".join(event for event in split_events(block) if _PROGRESS not in event)
        return block.replace(_CHAT_ID, _COMPLETION_ID) if _COMPLETION in block else block

    def explain_refusal(self, status: int, body: bytes) -> ErrorAnswer | None:
        """Give llama.cpp's refusal OpenAI's type and code; its own `code` repeats the status.

        A schema or message that it cannot read may be fine elsewhere; where it is wrong, the next one says so.
        """
        try:
            error = msgspec.json.decode(body, type=_Refusal).error
        except msgspec.MsgspecError:
            return None
        if error.type == _CONTEXT_EXCEEDED:
            return ErrorAnswer(400, _INVALID, ErrorCode.CONTEXT_LENGTH_EXCEEDED, error.message)
        if status == 500 and error.message.startswith(_READING_FAILED):
            message = "The small model's engine cannot read the messages or the tools."
            return ErrorAnswer(400, _INVALID, ErrorCode.NOT_SERVED_BY_SLM, message)
        if status == 400 and any(part in error.message for part in _SCHEMA_REFUSALS):
            return ErrorAnswer(400, _INVALID, ErrorCode.NOT_SERVED_BY_SLM, error.message)
        if status == 400:
            return ErrorAnswer(400, _INVALID, ErrorCode.INVALID_REQUEST, _say_plainly(error.message))
        return None


def _say_plainly(message: str) -> str:
    """Keep the field of what llama.cpp says in the words of its JSON library, and not these words."""
    before, found, _ = message.partition(_LIBRARY_WORDS)
    field = _NAMED_FIELD.match(before)
    if not found:
        return message
    where = f"'{field['name']}'" if field else "A field of the request"
    return f"{where} has a type, or a number, that the small model's engine cannot read."


def _is_set(value: Raw | None) -> bool:
    return value is not None and bytes(value) != _NULL
