"""One journal file under an exclusive `flock`: whoever holds the lock owns the file.

The lock goes with the process, however it dies, so a file whose lock is free belongs to a dead replica. The
directory must be on a local file system. Bytes are in the page cache when `append` returns: they survive
`kill -9` of the process, not a power cut. Used by the journal and by adoption.
"""

import fcntl
import os
from pathlib import Path

__all__ = ["SUFFIX", "Segment"]

SUFFIX = ".jsonl"


class Segment:
    """An open, locked file. `shipped_bytes` is how far its lines have reached the keeper."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        stat = os.fstat(descriptor)
        self.size_bytes = stat.st_size
        self.modified_at = stat.st_mtime
        self.shipped_bytes = 0

    @classmethod
    def create(cls, path: Path) -> "Segment | None":
        """Make and lock a new file; None when the name is taken or an adopter was quicker."""
        try:
            return cls._lock(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return None

    @classmethod
    def take(cls, path: Path) -> "Segment | None":
        """Lock a dead owner's file; None when the owner lives or the file is gone."""
        try:
            return cls._lock(path, os.open(path, os.O_RDWR | os.O_APPEND))
        except FileNotFoundError:
            return None

    @classmethod
    def _lock(cls, path: Path, descriptor: int) -> "Segment | None":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between open and flock another process may have locked, emptied and removed the file.
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def append(self, data: bytes) -> None:
        """Write whole lines, or nothing: a short write (full disk) is taken back and raised as OSError."""
        try:
            written = os.write(self._descriptor, data)
        except OSError:
            os.ftruncate(self._descriptor, self.size_bytes)
            raise
        if written != len(data):
            os.ftruncate(self._descriptor, self.size_bytes)
            raise OSError(f"{written} of {len(data)} bytes fitted on the disk")
        self.size_bytes += written

    def read_lines(self, offset_bytes: int, limit_bytes: int) -> bytes:
        """Whole lines from an offset, about `limit_bytes` of them and at least one; empty at the end.

        A last line without its newline was being written when its owner died, and is not read.
        """
        while True:
            data = os.pread(self._descriptor, limit_bytes, offset_bytes)
            end = data.rfind(b"\n") + 1
            if end or len(data) < limit_bytes:
                return data[:end]
            limit_bytes *= 2

    def remove(self) -> None:
        """Unlink while the lock is held, so that nobody adopts what is done with."""
        self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Close the file and with it the lock."""
        os.close(self._descriptor)
