"""The text of an answer's first choice, whole or streamed: what two answers are compared by. Pure.

Only what a client shows as the answer: neither reasoning nor tool calls. Whoever passes answers on reads `answers`.
"""

from typing import Any

import msgspec

from hybridroute_serve.wire.answers import InvalidAnswerError
from hybridroute_serve.wire.sse import event_data, split_events

__all__ = ["read_text"]

_DECODER = msgspec.json.Decoder()
_FIELDS = ("content", "refusal")


def read_text(answer: bytes, *, streamed: bool) -> str:
    """Return the text. Raises `InvalidAnswerError` for what is no answer, or has an error in it."""
    if not streamed:
        return _read(answer)
    pieces = (event_data(event) for event in split_events(answer))
    return "".join(_read(data) for data in pieces if data and data.strip() not in (b"", b"[DONE]"))


def _read(data: bytes) -> str:
    try:
        document = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAnswerError(f"answer was not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("error"):
        raise InvalidAnswerError("answer was an error, or no JSON object")
    choices = document.get("choices")
    if not isinstance(choices, list):
        raise InvalidAnswerError("answer had no choices")
    return "".join(
        _text(choice) for choice in choices if isinstance(choice, dict) and not choice.get("index")
    )


def _text(choice: dict[str, Any]) -> str:
    message = choice.get("delta") or choice.get("message")
    values = [message.get(name) for name in _FIELDS] if isinstance(message, dict) else [choice.get("text")]
    return "".join(value for value in values if isinstance(value, str))
