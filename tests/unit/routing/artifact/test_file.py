"""The file: what is written is read, and anything else is refused with what to do."""

import json

import msgspec
import numpy as np
import pytest

from hybridroute_serve.routing.artifact.errors import (
    ArtifactCorruptError,
    ArtifactTooLargeError,
    ArtifactVersionError,
)
from hybridroute_serve.routing.artifact.file import decode_artifact, encode_artifact
from hybridroute_serve.routing.artifact.header import MAX_ARTIFACT_BYTES


def test_a_round_trip_changes_nothing(certified: bytes) -> None:
    artifact = decode_artifact(certified)
    again = encode_artifact(artifact.header, artifact.arrays)
    assert again == certified
    assert artifact.size_bytes == len(certified)
    reread = decode_artifact(again)
    assert reread.digest == artifact.digest
    for name, array in artifact.arrays.items():
        assert np.array_equal(array, reread.arrays[name])


def test_the_first_line_is_readable_json_that_begins_with_the_digest(certified: bytes) -> None:
    line = json.loads(certified.partition(b"\n")[0])
    assert next(iter(line)) == "sha256"
    assert line["sha256"] == decode_artifact(certified).digest
    assert line["created"] == "2025-01-02"
    assert line["models"] == {"slm": "abc"}
    assert line["rows"]["fit"] + line["rows"]["certify"] == line["rows"]["given"] == 600
    assert line["promise"]["points"][0]["upper"].keys() == {"0.01", "0.05", "0.1", "0.2"}


@pytest.mark.parametrize("place", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_changed_byte_is_noticed_wherever_it_is(certified: bytes, place: float) -> None:
    data = bytearray(certified)
    data[int(place * (len(data) - 1))] ^= 1
    with pytest.raises(ArtifactCorruptError):
        decode_artifact(bytes(data))


@pytest.mark.parametrize("data", [b"", b"{}", b"not an artifact\n", b'{"sha256":"', b"\x00" * 500])
def test_other_files_are_told_apart(data: bytes) -> None:
    with pytest.raises(ArtifactCorruptError, match="hybridroute calibrate"):
        decode_artifact(data)


def test_a_file_that_was_cut_short_is_damaged(certified: bytes) -> None:
    with pytest.raises(ArtifactCorruptError, match="copy it again"):
        decode_artifact(certified[:-1])


@pytest.mark.parametrize("field", ["format_version", "features_version"])
def test_another_version_says_to_calibrate_again(certified: bytes, field: str) -> None:
    artifact = decode_artifact(certified)
    other = msgspec.structs.replace(artifact.header, **{field: 99})
    with pytest.raises(ArtifactVersionError, match=r"99.*calibrate again"):
        decode_artifact(encode_artifact(other, artifact.arrays))


def test_more_than_a_config_map_holds_is_refused(certified: bytes) -> None:
    artifact = decode_artifact(certified)
    noise = np.random.default_rng(0).integers(0, 256, MAX_ARTIFACT_BYTES, dtype=np.uint8)
    with pytest.raises(ArtifactTooLargeError, match="use fewer labels"):
        encode_artifact(artifact.header, artifact.arrays | {"noise": noise})


def test_an_array_of_objects_is_refused(certified: bytes) -> None:
    artifact = decode_artifact(certified)
    with pytest.raises(ValueError, match="dtype object"):
        encode_artifact(artifact.header, {"bad": np.array([None])})
