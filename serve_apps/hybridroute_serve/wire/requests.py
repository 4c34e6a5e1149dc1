"""Reads from a request body what routing, capability and pricing need. The body itself travels on unchanged.

One strict parse into typed values; unknown fields pass, wrong types of known fields are answered as OpenAI
would: 400 with the field's name. Pure. Used by the router, the llm-proxy and the slm.
"""

import hashlib
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.wire.errors import InvalidRequest
from hybridroute_serve.wire.token_estimates import (
    MESSAGE_OVERHEAD_TOKENS,
    NON_TEXT_PART_TOKENS,
    estimate_tokens,
    estimate_tokens_of_bytes,
)

__all__ = ["ChatMessage", "ParsedRequest", "parse_request"]


class ChatMessage(msgspec.Struct, frozen=True):
    """One message: who, and the text of it. Parts that are not text are left out."""

    role: str
    text: str


class ParsedRequest(msgspec.Struct, frozen=True):
    """What a request asks for."""

    api: Api
    model: str
    stream: bool
    include_usage: bool
    """The client asked for the usage chunk at a stream's end."""
    messages: tuple[ChatMessage, ...]
    """Empty for `completions`."""
    routing_text: str
    """The last user message, or the last prompt of `completions`; empty for token arrays."""
    non_text_parts: frozenset[str]
    """Kinds of content parts other than text: `image_url`, `input_audio`, `file`."""
    offers_tools: bool
    response_format: str | None
    """`text`, `json_object`, `json_schema`, or whatever else was asked for."""
    logprobs: bool
    audio_answer: bool
    """The answer is to be spoken: `modalities` names audio, or `audio` says how."""
    web_search: bool
    """The answer is to be looked up: `web_search_options`."""
    completion_options: frozenset[str]
    """What a `completions` request asks for that not every engine does: `best_of`, `echo`, `logprobs`, `suffix`."""
    choices: int
    """Answers asked for: `n`, times the number of prompts for `completions`."""
    max_output_tokens: int | None
    """The request's own cap on each answer."""
    has_tool_results: bool
    """Tool results follow the last assistant message: the turn belongs where its tool call was made."""
    conversation_key: str | None
    """With tool results: the key under which the turn that made the call was recorded."""
    next_conversation_key: str | None
    """When tools are offered: the key under which the next turn will look for this one."""
    body_bytes: int
    prompt_bytes: int
    """UTF-8 length of all text."""
    estimated_prompt_tokens: int


_PositiveInt = Annotated[int, Meta(ge=1)]
_MOST_ITEMS = 2048
"""Of messages, of a message's parts, of tools, of prompts: OpenAI's bound. A body of nothing but small items would
hold up everybody else of the replica while each is looked at.
"""
_MOST_PROMPT_TOKENS = 1_000_000
_Objects = Annotated[list[Raw], Meta(max_length=_MOST_ITEMS)]
_Alternatives = Annotated[int, Meta(ge=0, le=20)]
"""Likely tokens listed for each token: OpenAI's bound for chat. An engine's whole vocabulary makes 1 MB a token."""


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: str | Annotated[list[_Part], Meta(max_length=_MOST_ITEMS)] | None = None
    name: str | None = None
    tool_calls: _Objects | None = None
    tool_call_id: str | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str


class _Body(msgspec.Struct, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    response_format: _ResponseFormat | None = None
    n: _PositiveInt | None = None
    max_tokens: _PositiveInt | None = None


class _ChatBody(_Body, kw_only=True):
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=_MOST_ITEMS)]
    max_completion_tokens: _PositiveInt | None = None
    tools: _Objects | None = None
    functions: _Objects | None = None
    logprobs: bool | None = None
    top_logprobs: _Alternatives | None = None
    modalities: Annotated[list[str], Meta(max_length=_MOST_ITEMS)] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None


class _CompletionBody(_Body, kw_only=True):
    # A union holds one array type at most, so items are checked after decoding.
    prompt: str | Annotated[list[Any], Meta(min_length=1, max_length=_MOST_PROMPT_TOKENS)]
    best_of: _PositiveInt | None = None
    logprobs: _Alternatives | None = None
    echo: bool | None = None
    suffix: str | None = None


class _ConversationBody(msgspec.Struct):
    messages: list[dict[str, Any]]


_BodyT = TypeVar("_BodyT", bound=_Body)

_CHAT_DECODER = msgspec.json.Decoder(_ChatBody)
_COMPLETION_DECODER = msgspec.json.Decoder(_CompletionBody)
_CONVERSATION_DECODER = msgspec.json.Decoder(_ConversationBody)
_CANONICAL_ENCODER = msgspec.json.Encoder(order="deterministic")

_TOOL_ROLES = frozenset({"tool", "function"})
_TEXT_PARTS = frozenset({"text", "refusal"})
_MISSING_FIELD = re.compile(r"^Object missing required field `(?P<field>[^`]*)`")
_AT_PATH = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)


def parse_request(body: bytes, api: Api) -> ParsedRequest:
    """Parse the body of an OpenAI request. Raises `InvalidRequest`."""
    try:
        if api is Api.CHAT_COMPLETIONS:
            return _parse_chat(_decode(_CHAT_DECODER, body), body)
        return _parse_completion(_decode(_COMPLETION_DECODER, body), body)
    except RecursionError:
        message = "The request body is nested too deeply."
        raise InvalidRequest(None, message, code=ErrorCode.INVALID_JSON) from None


def _parse_chat(chat: _ChatBody, body: bytes) -> ParsedRequest:
    messages: list[ChatMessage] = []
    non_text_parts: set[str] = set()
    non_text_count = 0
    tool_bytes = _object_bytes("tools", chat.tools) + _object_bytes("functions", chat.functions)
    for number, message in enumerate(chat.messages):
        if isinstance(message.content, list):
            _require_texts(number, message.content)
            others = [part.type for part in message.content if part.type not in _TEXT_PARTS]
            non_text_parts.update(others)
            non_text_count += len(others)
            texts = (part.text or part.refusal for part in message.content)
            messages.append(ChatMessage(message.role, "\n".join(text for text in texts if text)))
        else:
            messages.append(ChatMessage(message.role, message.content or ""))
        tool_bytes += _object_bytes(f"messages[{number}].tool_calls", message.tool_calls)

    last_assistant = _last_index(messages, "assistant")
    last_user = _last_index(messages, "user")
    has_tool_results = any(message.role in _TOOL_ROLES for message in messages[last_assistant + 1 :])
    offers_tools = bool(chat.tools or chat.functions)
    conversation: list[dict[str, Any]] = []
    if has_tool_results or offers_tools:
        conversation = _CONVERSATION_DECODER.decode(body).messages
    return ParsedRequest(
        api=Api.CHAT_COMPLETIONS,
        model=chat.model,
        stream=bool(chat.stream),
        include_usage=_asks_for_usage(chat),
        messages=tuple(messages),
        routing_text=messages[last_user].text if last_user >= 0 else "",
        non_text_parts=frozenset(non_text_parts),
        offers_tools=offers_tools,
        response_format=chat.response_format.type if chat.response_format else None,
        logprobs=bool(chat.logprobs),
        audio_answer="audio" in (chat.modalities or ()) or chat.audio is not None,
        web_search=chat.web_search_options is not None,
        completion_options=frozenset(),
        choices=chat.n or 1,
        max_output_tokens=chat.max_completion_tokens or chat.max_tokens,
        has_tool_results=has_tool_results,
        conversation_key=(
            _conversation_key(conversation[:last_assistant])
            if has_tool_results and last_assistant >= 0
            else None
        ),
        next_conversation_key=_conversation_key(conversation) if offers_tools else None,
        body_bytes=len(body),
        prompt_bytes=sum(_utf8_length(message.text) for message in messages),
        estimated_prompt_tokens=(
            sum(estimate_tokens(message.text) + MESSAGE_OVERHEAD_TOKENS for message in messages)
            + non_text_count * NON_TEXT_PART_TOKENS
            + estimate_tokens_of_bytes(tool_bytes)
        ),
    )


def _object_bytes(field: str, items: list[Raw] | None) -> int:
    """Return the length of an array of objects as it came. Raises `InvalidRequest` where an item is none."""
    for number, item in enumerate(items or ()):
        if bytes(memoryview(item)[:1]) != b"{":
            raise InvalidRequest(f"{field}[{number}]", f"Invalid '{field}[{number}]': expected object.")
    return sum(len(memoryview(item)) for item in items or ())


def _require_texts(number: int, parts: list[_Part]) -> None:
    for index, part in enumerate(parts):
        if part.type == "text" and part.text is None:
            field = f"messages[{number}].content[{index}].text"
            raise InvalidRequest(field, f"Missing required field '{field}'.")


def _parse_completion(completion: _CompletionBody, body: bytes) -> ParsedRequest:
    texts, token_count, prompts = _read_prompts(completion.prompt)
    return ParsedRequest(
        api=Api.COMPLETIONS,
        model=completion.model,
        stream=bool(completion.stream),
        include_usage=_asks_for_usage(completion),
        messages=(),
        routing_text=texts[-1] if texts else "",
        non_text_parts=frozenset(),
        offers_tools=False,
        response_format=completion.response_format.type if completion.response_format else None,
        logprobs=completion.logprobs is not None,
        audio_answer=False,
        web_search=False,
        completion_options=_completion_options(completion),
        choices=max(completion.n or 1, completion.best_of or 1) * prompts,
        max_output_tokens=completion.max_tokens,
        has_tool_results=False,
        conversation_key=None,
        next_conversation_key=None,
        body_bytes=len(body),
        prompt_bytes=sum(_utf8_length(text) for text in texts),
        estimated_prompt_tokens=sum(estimate_tokens(text) for text in texts) + token_count,
    )


def _completion_options(completion: _CompletionBody) -> frozenset[str]:
    asked = {
        "best_of": (completion.best_of or 1) > 1,
        "echo": bool(completion.echo),
        "logprobs": completion.logprobs is not None,
        "suffix": bool(completion.suffix),
    }
    return frozenset(name for name, is_asked in asked.items() if is_asked)


def _read_prompts(prompt: str | list[Any]) -> tuple[list[str], int, int]:
    """Return the texts, the number of given tokens, and how many prompts there are."""
    if isinstance(prompt, str):
        return [prompt], 0, 1
    if _is_token_array(prompt):
        return [], len(prompt), 1
    if len(prompt) > _MOST_ITEMS:
        raise InvalidRequest("prompt", f"Invalid 'prompt': expected at most {_MOST_ITEMS} prompts.")
    if all(isinstance(item, str) for item in prompt):
        return list(prompt), 0, len(prompt)
    if all(isinstance(item, list) and _is_token_array(item) for item in prompt):
        return [], sum(len(item) for item in prompt), len(prompt)
    raise InvalidRequest(
        "prompt", "Invalid 'prompt': expected a string, an array of strings or an array of tokens."
    )


def _is_token_array(items: list[Any]) -> bool:
    return all(isinstance(item, int) and not isinstance(item, bool) for item in items)


def _asks_for_usage(body: _Body) -> bool:
    return bool(body.stream and body.stream_options and body.stream_options.include_usage)


def _last_index(messages: list[ChatMessage], role: str) -> int:
    """Return the index of the last message of a role, or -1."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == role:
            return index
    return -1


def _utf8_length(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _conversation_key(messages: list[dict[str, Any]]) -> str:
    """Hash messages whatever their whitespace, key order and null fields: clients change these."""
    without_nulls = [
        {name: value for name, value in message.items() if value is not None} for message in messages
    ]
    canonical = _CANONICAL_ENCODER.encode(without_nulls)
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def _decode(decoder: msgspec.json.Decoder[_BodyT], body: bytes) -> _BodyT:
    try:
        # What the decoder passes over it does not look into, but an engine will.
        body.decode()
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"The request body is not valid JSON: {error}."
        raise InvalidRequest(None, message, code=ErrorCode.INVALID_JSON) from None


def _explain(message: str) -> InvalidRequest:
    """Turn a validation message, which names a JSON path, into OpenAI's terms."""
    parts = _AT_PATH.match(message)
    what, path = (parts["what"], parts["path"] or "") if parts else (message, "")
    missing = _MISSING_FIELD.match(what)
    if missing:
        field = f"{path}.{missing['field']}" if path else missing["field"]
        return InvalidRequest(field, f"Missing required field '{field}'.")
    what = what.replace("`", "")
    if not path:
        return InvalidRequest(None, f"Invalid request body: {what[:1].lower()}{what[1:]}.")
    return InvalidRequest(path, f"Invalid '{path}': {what[:1].lower()}{what[1:]}.")
