"""Puts a stream of chunks together again to the unary answer that the client asked for. Pure.

The engine is always asked for a stream: only so does it notice at once that a client is gone.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from hybridroute_api.records import TokenUsage
from hybridroute_api.vocabulary import Api
from hybridroute_serve.slm.usage import encode_usage
from hybridroute_serve.wire.answers import InvalidAnswerError
from hybridroute_serve.wire.sse import event_data, split_events

__all__ = ["AnswerAssembler"]

_OBJECTS = {Api.CHAT_COMPLETIONS: "chat.completion", Api.COMPLETIONS: "text_completion"}
_JOINED_TEXTS = ("content", "refusal", "reasoning_content")
_DECODER = msgspec.json.Decoder(dict[str, Any])


@dataclass(slots=True)
class _Choice:
    """What has come of one choice."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    tool_calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    logprobs: dict[str, list[Any]] = field(default_factory=dict)
    finish_reason: str | None = None

    def add(self, chunk: dict[str, Any]) -> None:
        delta = chunk.get("delta") or {}
        for name in _JOINED_TEXTS:
            self._add_text(name, delta.get(name))
        self._add_text("text", chunk.get("text"))
        for call in delta.get("tool_calls") or ():
            self._add_tool_call(call)
        for name, values in (chunk.get("logprobs") or {}).items():
            if isinstance(values, list):
                self.logprobs.setdefault(name, []).extend(values)
        self.finish_reason = chunk.get("finish_reason") or self.finish_reason

    def _add_text(self, name: str, text: str | None) -> None:
        if text is not None:
            self.texts.setdefault(name, []).append(text)

    def _add_tool_call(self, call: dict[str, Any]) -> None:
        """The first piece of a call names it; later ones add to its arguments."""
        known = self.tool_calls.setdefault(call.get("index", 0), {"type": "function"})
        known |= {name: call[name] for name in ("id", "type") if call.get(name)}
        function = known.setdefault("function", {"name": "", "arguments": ""})
        piece = call.get("function") or {}
        function["name"] = piece.get("name") or function["name"]
        function["arguments"] += piece.get("arguments") or ""

    def text(self, name: str) -> str | None:
        pieces = self.texts.get(name)
        return None if pieces is None else "".join(pieces)


class AnswerAssembler:
    """One answer. Feed it complete events, then ask for the whole."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._first: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.error: dict[str, Any] | None = None
        """The error event that broke the stream off."""

    def feed(self, block: bytes) -> None:
        """Take complete events. Raises `InvalidAnswerError`."""
        for event in split_events(block):
            data = event_data(event)
            if data is None or data.strip() in (b"", b"[DONE]"):
                continue
            try:
                chunk = _DECODER.decode(data)
            except msgspec.MsgspecError as error:
                raise InvalidAnswerError(f"event was not a JSON object: {error}") from None
            if chunk.get("error"):
                self.error = chunk["error"]
                return
            self._first = self._first or chunk
            for choice in chunk.get("choices") or ():
                self._choices.setdefault(choice.get("index", 0), _Choice()).add(choice)

    def assemble(self, usage: TokenUsage | None) -> bytes:
        """Encode the answer."""
        answer = {
            "id": self._first.get("id"),
            "object": _OBJECTS[self._api],
            "created": self._first.get("created"),
            "model": self._first.get("model"),
            "choices": [self._encode(index, self._choices[index]) for index in sorted(self._choices)],
        }
        if "system_fingerprint" in self._first:
            answer["system_fingerprint"] = self._first["system_fingerprint"]
        if usage is not None:
            answer["usage"] = encode_usage(usage)
        return msgspec.json.encode(answer)

    def _encode(self, index: int, choice: _Choice) -> dict[str, Any]:
        encoded: dict[str, Any] = {"index": index}
        if self._api is Api.CHAT_COMPLETIONS:
            encoded["message"] = _encode_message(choice)
        else:
            encoded["text"] = choice.text("text") or ""
        encoded["logprobs"] = choice.logprobs or None
        encoded["finish_reason"] = choice.finish_reason
        return encoded


def _encode_message(choice: _Choice) -> dict[str, Any]:
    content = choice.text("content")
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "" if content is None and not choice.tool_calls else content,
    }
    for name in ("refusal", "reasoning_content"):
        text = choice.text(name)
        if text is not None:
            message[name] = text
    if choice.tool_calls:
        message["tool_calls"] = [choice.tool_calls[index] for index in sorted(choice.tool_calls)]
    return message
