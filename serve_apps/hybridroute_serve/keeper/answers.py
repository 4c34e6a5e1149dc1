"""How the keeper's endpoints answer: JSON, or an error in OpenAI's shape. Starlette responses alone."""

from typing import Any

import msgspec
from starlette.responses import Response

from hybridroute_api.vocabulary import ErrorCode
from hybridroute_serve.wire.errors import ErrorAnswer

__all__ = ["JSON", "answer_error", "answer_json", "bad_request", "not_found"]

JSON = "application/json"
_INVALID = "invalid_request_error"


def answer_json(document: Any, *, status: int = 200) -> Response:
    """Answer with whatever msgspec encodes."""
    return Response(msgspec.json.encode(document), status_code=status, media_type=JSON)


def answer_error(error: ErrorAnswer) -> Response:
    """Answer with an error."""
    return Response(error.body(), status_code=error.status, media_type=JSON)


def bad_request(message: str) -> Response:
    """400: the asker must not send this again as it is."""
    return answer_error(ErrorAnswer(400, _INVALID, ErrorCode.INVALID_REQUEST, message))


def not_found(code: ErrorCode, message: str) -> Response:
    """404."""
    return answer_error(ErrorAnswer(404, _INVALID, code, message))
