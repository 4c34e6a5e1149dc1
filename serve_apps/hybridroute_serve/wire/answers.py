"""Reads what an upstream's answer, or one event of its stream, says: usage, content, an error, the end.

Tolerant on purpose: upstreams differ, and whatever is not understood passes to the client unread. Pure.
Used by `streams` and by the relay.
"""

from typing import Any

import msgspec

from hybridroute_api.records import TokenUsage
from hybridroute_api.vocabulary import UsageSource
from hybridroute_serve.wire.sse import event_data
from hybridroute_serve.wire.token_estimates import estimate_tokens

__all__ = [
    "AnswerFacts",
    "InvalidAnswerError",
    "is_json_object",
    "parse_answer",
    "parse_event",
    "parse_usage",
]

_DECODER = msgspec.json.Decoder()
_CONTENT_FIELDS = (
    "content",
    "tool_calls",
    "function_call",
    "refusal",
    "reasoning",
    "reasoning_content",
    "audio",
)


_LARGEST_COUNT = 10**9
"""Tokens: beyond any context, and far below what a database or a sum of dollars would break at."""


class InvalidAnswerError(Exception):
    """The upstream sent something that is no JSON object, or no answer."""


class AnswerFacts(msgspec.Struct, frozen=True):
    """What one answer or one event says."""

    has_content: bool = False
    """Generated content: text, a tool call, a refusal, reasoning. A role alone is none."""
    content_bytes: int = 0
    content_tokens: int = 0
    """Estimated; for upstreams that send no usage."""
    finished: bool = False
    """A choice has a finish reason."""
    done: bool = False
    """The stream's `[DONE]`."""
    failed: bool = False
    """An error object in place of, or beside, an answer."""
    usage: TokenUsage | None = None
    usage_only: bool = False
    """A chunk that has usage and no choices: it exists because it was asked for."""


_NOTHING = AnswerFacts()
_DONE = AnswerFacts(done=True)


def parse_event(event: bytes) -> AnswerFacts:
    """Read one server-sent event. Raises `InvalidAnswerError`."""
    data = event_data(event)
    if data is None or not data.strip():
        return _NOTHING
    if data.strip() == b"[DONE]":
        return _DONE
    facts, _ = _read(data)
    return facts


def parse_answer(body: bytes) -> AnswerFacts:
    """Read a whole answer, which has choices unless it failed. Raises `InvalidAnswerError`."""
    facts, choices = _read(body)
    if not choices and not facts.failed:
        raise InvalidAnswerError("answer had no choices")
    return facts


def _read(body: bytes) -> tuple[AnswerFacts, int]:
    """Return what an answer or one chunk of a stream says, and how many choices it has."""
    try:
        answer = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAnswerError(f"answer was not JSON: {error}") from None
    if not isinstance(answer, dict):
        raise InvalidAnswerError("answer was not a JSON object")
    listed = answer.get("choices")
    choices = [choice for choice in listed if isinstance(choice, dict)] if isinstance(listed, list) else []
    content = [value for choice in choices for value in _contents(choice)]
    reported = answer.get("usage")
    facts = AnswerFacts(
        has_content=bool(content),
        content_bytes=sum(len(text.encode("utf-8", "surrogatepass")) for text in content),
        content_tokens=sum(estimate_tokens(text) for text in content),
        finished=any(choice.get("finish_reason") for choice in choices),
        failed=bool(answer.get("error")) or answer.get("object") == "error",
        usage=parse_usage(reported),
        usage_only=isinstance(reported, dict) and "prompt_tokens" in reported and not choices,
    )
    return facts, len(choices)


def is_json_object(body: bytes) -> bool:
    """Say whether a body is a JSON object, as every OpenAI-shaped answer is."""
    try:
        return isinstance(_DECODER.decode(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def parse_usage(usage: Any) -> TokenUsage | None:
    """Read a `usage` object; None when it holds no counts, as in chunks before the last, or absurd ones.

    A detail is never more than its whole, and none at all where it is absurd.
    """
    prompt_tokens = _count(usage, "prompt_tokens")
    completion_tokens = _count(usage, "completion_tokens")
    if completion_tokens is None and isinstance(usage, dict) and usage.get("completion_tokens") is None:
        # Left out where nothing was generated.
        completion_tokens = 0
    if prompt_tokens is None or completion_tokens is None:
        return None
    return TokenUsage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=min(prompt_tokens, _count(usage.get("prompt_tokens_details"), "cached_tokens") or 0),
        reasoning_tokens=min(
            completion_tokens, _count(usage.get("completion_tokens_details"), "reasoning_tokens") or 0
        ),
        source=UsageSource.REPORTED,
    )


def _count(counts: Any, name: str) -> int | None:
    """Return a count, None where it is missing or absurd."""
    value = counts.get(name) if isinstance(counts, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_COUNT:
        return None
    return value


def _contents(choice: dict[str, Any]) -> list[str]:
    """Return the generated pieces of one choice as text; structured ones as JSON."""
    message = choice.get("delta") or choice.get("message")
    values = [message.get(name) for name in _CONTENT_FIELDS] if isinstance(message, dict) else []
    values.append(choice.get("text"))
    return [
        value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values if value
    ]
