"""The artifact's file: one line of readable JSON, then compressed arrays. Pure: bytes in, values out.

    {"sha256":"<64 hex digits>", <the rest of the header>}\\n<zlib streams, one an array>

The digest covers everything but itself, and names the artifact in status and in every decision record.
"""

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from hybridroute_serve.routing.artifact.errors import (
    ArtifactCorruptError,
    ArtifactTooLargeError,
    ArtifactVersionError,
)
from hybridroute_serve.routing.artifact.header import (
    FORMAT_VERSION,
    MAX_ARTIFACT_BYTES,
    ArraySpec,
    ArtifactHeader,
)
from hybridroute_serve.routing.artifact.text_features import FEATURES_VERSION

__all__ = ["Arrays", "ArtifactFile", "decode_artifact", "encode_artifact"]

Arrays = dict[str, NDArray[Any]]

_PREFIX = b'{"sha256":"'
_DIGEST_END = len(_PREFIX) + 64
_DTYPES = ("int8", "uint8", "uint16", "int32", "float16", "float32")
_MAX_ARRAY_BYTES = 64 * 1024 * 1024  # a few kilobytes of zlib can claim gigabytes


class _Versions(msgspec.Struct):
    format_version: int
    features_version: int


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """An artifact as it was read."""

    header: ArtifactHeader
    arrays: Arrays
    digest: str
    """sha256 in hexadecimal."""
    size_bytes: int


def encode_artifact(header: ArtifactHeader, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the file's bytes. Raises `ArtifactTooLargeError` above `MAX_ARTIFACT_BYTES`."""
    specs: dict[str, ArraySpec] = {}
    payload = bytearray()
    for name, array in sorted(arrays.items()):
        if array.dtype.name not in _DTYPES:
            raise ValueError(f"array {name} has dtype {array.dtype}, which artifacts do not hold")
        packed = zlib.compress(np.ascontiguousarray(array).tobytes(), 9)
        specs[name] = ArraySpec(array.dtype.name, array.shape, len(payload), len(packed))
        payload += packed
    line = msgspec.json.encode(msgspec.structs.replace(header, arrays=specs))
    body = line[1:] + b"\n" + bytes(payload)
    data = _PREFIX + hashlib.sha256(body).hexdigest().encode() + b'",' + body
    if len(data) > MAX_ARTIFACT_BYTES:
        raise ArtifactTooLargeError(
            f"the artifact has {len(data)} bytes, more than {MAX_ARTIFACT_BYTES}: use fewer labels"
        )
    return data


def decode_artifact(data: bytes) -> ArtifactFile:
    """Read and verify a file's bytes.

    Raises `ArtifactCorruptError` for anything but the bytes that were written, `ArtifactVersionError` for
    another release's format.
    """
    if not data.startswith(_PREFIX) or data[_DIGEST_END : _DIGEST_END + 2] != b'",':
        raise ArtifactCorruptError(
            "not a routing artifact: the file does not begin with its digest; make one with `hybridroute calibrate`"
        )
    digest = data[len(_PREFIX) : _DIGEST_END].decode("ascii", "replace")
    body = data[_DIGEST_END + 2 :]
    actual = hashlib.sha256(body).hexdigest()
    if actual != digest:
        raise ArtifactCorruptError(
            f"the artifact is damaged: its digest is {actual[:12]} and should be {digest[:12]}; copy it again"
        )
    line, _, payload = body.partition(b"\n")
    _check_versions(b"{" + line)
    try:
        header = msgspec.json.decode(b"{" + line, type=ArtifactHeader)
        arrays = {name: _read_array(name, spec, payload) for name, spec in header.arrays.items()}
    except (msgspec.DecodeError, zlib.error, ValueError) as error:
        raise ArtifactCorruptError(f"the artifact cannot be read: {error}") from error
    return ArtifactFile(header, arrays, digest, len(data))


def _check_versions(line: bytes) -> None:
    try:
        versions = msgspec.json.decode(line, type=_Versions)
    except msgspec.DecodeError as error:
        raise ArtifactCorruptError(f"the artifact's header cannot be read: {error}") from error
    if versions.format_version != FORMAT_VERSION or versions.features_version != FEATURES_VERSION:
        raise ArtifactVersionError(
            f"the artifact has format {versions.format_version} with features {versions.features_version}; this "
            f"release reads format {FORMAT_VERSION} with features {FEATURES_VERSION}: calibrate again with it"
        )


def _read_array(name: str, spec: ArraySpec, payload: bytes) -> NDArray[Any]:
    if spec.dtype not in _DTYPES:
        raise ValueError(f"array {name} has dtype {spec.dtype}")
    dtype = np.dtype(spec.dtype)
    expected = int(np.prod(spec.shape, dtype=np.int64)) * dtype.itemsize
    if not 0 <= expected <= _MAX_ARRAY_BYTES:
        raise ValueError(f"array {name} claims {expected} bytes")
    reader = zlib.decompressobj()
    raw = reader.decompress(payload[spec.offset : spec.offset + spec.size], expected + 1)
    if len(raw) != expected:
        raise ValueError(f"array {name} has {len(raw)} bytes and should have {expected}")
    return np.frombuffer(raw, dtype=dtype).reshape(spec.shape)
