"""Why an artifact cannot be used. Each message says what to do; the route keeps its last good policy."""

__all__ = [
    "ArtifactCorruptError",
    "ArtifactEmbeddingError",
    "ArtifactError",
    "ArtifactTooLargeError",
    "ArtifactVersionError",
]


class ArtifactError(ValueError):
    """The artifact cannot be used. The message is for the route's owner."""


class ArtifactCorruptError(ArtifactError):
    """The bytes are not an artifact, or not the bytes that were written."""


class ArtifactVersionError(ArtifactError):
    """Written by a release whose format or features differ from this one's."""


class ArtifactEmbeddingError(ArtifactError):
    """Made with an embedding that is not installed, or installed with other weights."""


class ArtifactTooLargeError(ArtifactError):
    """The artifact does not fit a ConfigMap."""
