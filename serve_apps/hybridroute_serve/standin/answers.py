"""What the stand-in says, and how it looks on the wire. Pure and deterministic.

Its tokens are words with the space before them: enough for limits, usage and pacing to mean something.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

from hybridroute_api.vocabulary import Api
from hybridroute_serve.wire.requests import ParsedRequest

__all__ = ["STAND_IN_MODEL", "StandInAnswer", "prepare_answer"]

STAND_IN_MODEL = "local-stand-in"

_LABEL = "local stand-in"


@dataclass(frozen=True, slots=True)
class StandInAnswer:
    """One request's answer, the same for each choice."""

    api: Api
    id: str
    created: int
    choices: int
    tokens: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int

    def whole(self) -> dict[str, Any]:
        """The unary answer."""
        text = "".join(self.tokens)
        content = (
            {"message": {"role": "assistant", "content": text}}
            if self.api is Api.CHAT_COMPLETIONS
            else {"text": text}
        )
        choices = [
            {"index": index, **content, "logprobs": None, "finish_reason": self.finish_reason}
            for index in range(self.choices)
        ]
        return {**self._head(streamed=False), "choices": choices, "usage": self.usage()}

    def opening_chunk(self, index: int) -> dict[str, Any] | None:
        """The chunk that names the role; completions have none."""
        if self.api is Api.COMPLETIONS:
            return None
        return self._chunk(index, {"delta": {"role": "assistant", "content": ""}}, None)

    def token_chunk(self, index: int, token: str) -> dict[str, Any]:
        """The chunk of one token."""
        content = {"delta": {"content": token}} if self.api is Api.CHAT_COMPLETIONS else {"text": token}
        return self._chunk(index, content, None)

    def closing_chunk(self, index: int) -> dict[str, Any]:
        """The chunk that ends one choice."""
        content: dict[str, Any] = {"delta": {}} if self.api is Api.CHAT_COMPLETIONS else {"text": ""}
        return self._chunk(index, content, self.finish_reason)

    def usage_chunk(self) -> dict[str, Any]:
        """The last chunk of a stream that was asked for usage."""
        return {**self._head(streamed=True), "choices": [], "usage": self.usage()}

    def usage(self) -> dict[str, int]:
        """Token counts over all choices."""
        completion_tokens = len(self.tokens) * self.choices
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        }

    def _chunk(self, index: int, content: dict[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": index, **content, "finish_reason": finish_reason}
        return {**self._head(streamed=True), "choices": [choice]}

    def _head(self, *, streamed: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self.api is Api.CHAT_COMPLETIONS:
            kind = "chat.completion.chunk" if streamed else "chat.completion"
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": STAND_IN_MODEL,
            "system_fingerprint": STAND_IN_MODEL,
        }


def prepare_answer(request: ParsedRequest, body: bytes, created: int) -> StandInAnswer:
    """Make the answer to a request; `created` is in Unix seconds."""
    words = _text(request).split(" ")
    tokens = (words[0], *(f" {word}" for word in words[1:]))
    limit = request.max_output_tokens
    is_cut = limit is not None and limit < len(tokens)
    prefix = "chatcmpl" if request.api is Api.CHAT_COMPLETIONS else "cmpl"
    return StandInAnswer(
        api=request.api,
        id=f"{prefix}-standin-{hashlib.blake2b(body, digest_size=12).hexdigest()}",
        created=created,
        choices=request.choices,
        tokens=tokens[:limit] if is_cut else tokens,
        finish_reason="length" if is_cut else "stop",
        prompt_tokens=request.estimated_prompt_tokens,
    )


def _text(request: ParsedRequest) -> str:
    return (
        f"This answer comes from the {_LABEL} for a remote LLM, not from a real model. "
        f"It only shows that your request, {len(request.routing_text)} characters long, was escalated. "
        "Set OPENAI_BASE_URL and OPENAI_API_KEY and start the route again to have a provider answer."
    )
