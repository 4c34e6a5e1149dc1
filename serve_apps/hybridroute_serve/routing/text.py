"""What the router reads of a prompt: the beginning and the end of the last user message.

Pure, and bounded whatever the prompt's length. The system prompt and earlier turns are left out on purpose:
boilerplate would decide otherwise. Embedding and records use the same text.
"""

__all__ = ["SIDE_BYTES", "SIDE_TOKENS", "routing_text"]

SIDE_TOKENS = 256
"""Tokens read at each end; the embedding cuts exactly, see `embedding.py`."""

SIDE_BYTES = 4 * SIDE_TOKENS
"""UTF-8 bytes read at each end: about 256 tokens of English (3.9 bytes each in the embedding's vocabulary) and more
of other text. Bytes and not characters, because one emoji is four tokens: 2,560 of them took 3 ms to tokenise.
"""

_SEPARATOR = "\n"


def routing_text(last_user_message: str) -> str:
    """Return the first and last `SIDE_BYTES` of a message, as valid Unicode; short messages come back whole.

    Lone surrogates, which JSON can carry, become question marks; a character cut in two is dropped.
    """
    if len(last_user_message) > 2 * SIDE_BYTES:
        return _head(last_user_message[:SIDE_BYTES]) + _SEPARATOR + _tail(last_user_message[-SIDE_BYTES:])
    encoded = last_user_message.encode("utf-8", "replace")
    if len(encoded) > 2 * SIDE_BYTES:
        return _head(last_user_message) + _SEPARATOR + _tail(last_user_message)
    return encoded.decode()


def _head(text: str) -> str:
    return text.encode("utf-8", "replace")[:SIDE_BYTES].decode("utf-8", "ignore")


def _tail(text: str) -> str:
    return text.encode("utf-8", "replace")[-SIDE_BYTES:].decode("utf-8", "ignore")
