"""Makes one usage chunk of those an engine sends.

llama.cpp counts each choice for itself: in a chunk of its own for chat, in the choice's last chunk for completions.
OpenAI sends one chunk without choices at the end, and only if it was asked for. Pure.
"""

from typing import Any

import msgspec

from hybridroute_api.records import TokenUsage
from hybridroute_api.vocabulary import Api, UsageSource
from hybridroute_serve.wire.answers import parse_usage
from hybridroute_serve.wire.sse import event_data, split_events

__all__ = ["UsageTally", "encode_usage"]

_USAGE = b'"prompt_tokens"'
_DONE = b"[DONE]"
_ENVELOPE = ("id", "object", "created", "model", "system_fingerprint")


class UsageTally:
    """The usage of one request. Feed it complete events; send what it returns."""

    def __init__(self, api: Api, *, emit: bool) -> None:
        self._api = api
        self._emit = emit
        self._seen: list[TokenUsage] = []
        self._envelope: dict[str, Any] = {}

    @property
    def total(self) -> TokenUsage | None:
        """The sum over all choices; None before the first count.

        The choices of a chat share one prompt. Completions may have a prompt each, so there every choice counts its
        own.
        """
        if not self._seen:
            return None
        of_prompts = max if self._api is Api.CHAT_COMPLETIONS else sum
        return TokenUsage(
            prompt_tokens=of_prompts(usage.prompt_tokens for usage in self._seen),
            completion_tokens=sum(usage.completion_tokens for usage in self._seen),
            cached_tokens=of_prompts(usage.cached_tokens for usage in self._seen),
            reasoning_tokens=sum(usage.reasoning_tokens for usage in self._seen),
            source=UsageSource.REPORTED,
        )

    def pass_events(self, block: bytes) -> bytes:
        """Return the events without usage, and with the sum before `[DONE]` if it is to be sent."""
        if _USAGE not in block and _DONE not in block:
            return block
        return b"".join(self._pass_event(event) for event in split_events(block))

    def _pass_event(self, event: bytes) -> bytes:
        data = event_data(event)
        if data is not None and data.strip() == _DONE:
            return self._total_event() + event
        if data is None or _USAGE not in data:
            return event
        try:
            chunk = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return event
        usage = parse_usage(chunk.get("usage")) if isinstance(chunk, dict) else None
        if usage is None:
            return event
        self._seen.append(usage)
        self._envelope = {name: chunk[name] for name in _ENVELOPE if name in chunk}
        if not chunk.get("choices"):
            return b""
        del chunk["usage"]
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"

    def _total_event(self) -> bytes:
        total = self.total
        if total is None or not self._emit:
            return b""
        chunk = {**self._envelope, "choices": [], "usage": encode_usage(total)}
        return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def encode_usage(usage: TokenUsage) -> dict[str, Any]:
    """Return a usage object in OpenAI's shape."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
