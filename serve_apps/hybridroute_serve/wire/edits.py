"""The named edits that a request body undergoes before it is sent on; all else stays as the client wrote it.

Shallow: top-level values that are not edited keep their bytes, and order is kept. Pure. Used by the path
applications.
"""

from typing import Literal

import msgspec
from msgspec import Raw

__all__ = ["OutputCap", "edit_body"]

_Fields = dict[str, Raw]
_FIELDS_DECODER = msgspec.json.Decoder(_Fields)
_ENCODER = msgspec.json.Encoder()
_CAP_FIELDS = ("max_completion_tokens", "max_tokens")
_NULL = b"null"
_TRUE = Raw(b"true")

OutputCap = tuple[Literal["max_tokens", "max_completion_tokens"], int]
"""The field that caps output at this upstream, and the cap."""


def edit_body(body: bytes, *, model: str | None, inject_usage: bool, cap_output: OutputCap | None) -> bytes:
    """Return the body with its edits. It must be a JSON object, as `parse_request` has checked.

    `model` replaces the name (None keeps it); `inject_usage` asks for the usage chunk of a stream;
    `cap_output` is added when the request has no cap of its own.
    """
    fields = _FIELDS_DECODER.decode(body)
    if model is not None:
        fields["model"] = Raw(_ENCODER.encode(model))
    if inject_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    if cap_output is not None and not any(_is_set(fields, name) for name in _CAP_FIELDS):
        name, tokens = cap_output
        for other in _CAP_FIELDS:
            fields.pop(other, None)
        fields[name] = Raw(str(tokens).encode())
    return _ENCODER.encode(fields)


def _is_set(fields: _Fields, name: str) -> bool:
    value = fields.get(name)
    return value is not None and bytes(value) != _NULL


def _with_usage(stream_options: Raw | None) -> Raw:
    if stream_options is None or bytes(stream_options) == _NULL:
        options: _Fields = {}
    else:
        options = _FIELDS_DECODER.decode(stream_options)
    options["include_usage"] = _TRUE
    return Raw(_ENCODER.encode(options))
