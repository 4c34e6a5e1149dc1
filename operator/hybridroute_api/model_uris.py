"""What a model's or adapter's URI names: a hub's repository, a path in a claim's volume, or a file. Pure."""

from dataclasses import dataclass
from pathlib import PurePath

__all__ = ["ClaimPath", "HubModel", "model_name", "parse_claim", "parse_hub"]

_CLAIM_SCHEME = "pvc://"
_HUB_SCHEME = "hf://"
_BUNDLED_SCHEME = "bundled:"
_GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A repository of the model hub."""

    repository: str
    revision: str | None
    """Branch, tag or commit; None is the repository's default."""


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A file or folder in a PersistentVolumeClaim's volume."""

    claim: str
    path: str
    """Relative to the volume's root."""


def parse_hub(uri: str) -> HubModel | None:
    """Return the repository that the URI names, or None for another kind of URI."""
    if not uri.startswith(_HUB_SCHEME):
        return None
    repository, _, revision = uri.removeprefix(_HUB_SCHEME).partition("@")
    return HubModel(repository, revision or None)


def parse_claim(uri: str) -> ClaimPath | None:
    """Return the claim and path that the URI names, or None for another kind of URI."""
    if not uri.startswith(_CLAIM_SCHEME):
        return None
    claim, _, path = uri.removeprefix(_CLAIM_SCHEME).partition("/")
    return ClaimPath(claim, path)


def model_name(uri: str) -> str:
    """Return the model's name in records: the bundled one's, the repository, or the file's or folder's."""
    hub = parse_hub(uri)
    if hub is not None:
        return hub.repository
    if uri.startswith(_BUNDLED_SCHEME):
        return uri.removeprefix(_BUNDLED_SCHEME)
    return PurePath(uri).name.removesuffix(_GGUF_SUFFIX)
