"""Bearer credentials in files, read again when the file changes.

A mounted Secret is replaced under a running process, so a file is looked at (one `stat`, about 2 µs) for each
attempt. The value stays in memory; it is never logged and never part of an error.
"""

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CredentialError", "CredentialFiles"]


class CredentialError(Exception):
    """A credential's file cannot be used. The message names the file, never its content."""


@dataclass(frozen=True, slots=True)
class _Read:
    stamp: tuple[int, int, int]
    value: str


class CredentialFiles:
    """Credentials by file."""

    def __init__(self) -> None:
        self._read: dict[str, _Read] = {}

    def read(self, path: str) -> str:
        """Return the file's stripped content. Raises `CredentialError`."""
        try:
            status = os.stat(path)  # noqa: PTH116 - on the hot path
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            known = self._read.get(path)
            if known is not None and known.stamp == stamp:
                return known.value
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialError(f"credential file {path} cannot be read: {type(error).__name__}") from None
        if not value or not value.isascii() or not value.isprintable():
            raise CredentialError(f"credential file {path} is empty or holds characters that no header may")
        self._read[path] = _Read(stamp, value)
        return value
