"""How vLLM's server differs from OpenAI's: in its refusals alone. Pure.

Requests pass with every field, vLLM's own among them, and answers as they come: it notices by itself when a client is
gone, counts all choices together, and refuses what it does not know.
"""

import msgspec

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.wire.errors import ErrorAnswer

__all__ = ["VllmDialect"]

_INVALID = "invalid_request_error"
_CONTEXT = ("maximum context length", "context length (", "maximum model length")
_NOT_SERVED = (
    "tool choice requires",
    "tool_choice=",
    "grammar",
    "chat template",
    "is not supported",
    "not support",
)
"""Parts of what vLLM says of what this model or its arguments do not serve, and another model may."""


class _Error(msgspec.Struct):
    message: str = ""
    type: str = ""
    param: str | None = None


class _Refusal(msgspec.Struct):
    error: _Error


class VllmDialect:
    """vLLM's OpenAI server, version 0.32."""

    streams_always = False
    bare_logprobs: bytes | None = b"null"

    def prepare_body(self, body: bytes, api: Api) -> bytes:
        """Return the body as it is."""
        del api
        return body

    def clean_events(self, block: bytes) -> bytes:
        """Return the events as they are."""
        return block

    def explain_refusal(self, status: int, body: bytes) -> ErrorAnswer | None:
        """Give vLLM's refusal OpenAI's type and code; its own `code` repeats the status."""
        try:
            error = msgspec.json.decode(body, type=_Refusal).error
        except msgspec.MsgspecError:
            return None
        if status not in (400, 422):
            return None
        said = error.message.lower()
        if any(part in said for part in _CONTEXT):
            code = ErrorCode.CONTEXT_LENGTH_EXCEEDED
        elif any(part in said for part in _NOT_SERVED):
            code = ErrorCode.NOT_SERVED_BY_SLM
        else:
            code = ErrorCode.INVALID_REQUEST
        return ErrorAnswer(400, _INVALID, code, error.message, error.param)
