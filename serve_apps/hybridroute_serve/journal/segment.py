"""One journal file under an exclusive `flock`: whoever holds the lock owns the file.

The lock goes with the process, however it dies, so a file whose lock is free belongs to a dead replica. The
directory must be on a local file system. Lines are copied into the file's mapped pages, which are the page cache: they
survive `kill -9` of the process, not a power cut, and cost no system call, where a write to ext4 must note the time in
the file system's own journal and waits for it behind the keeper's commits. Blocks are reserved before they are mapped,
so that a full disk is an error and not a signal. Used by the journal and by adoption.
"""

import fcntl
import mmap
import os
from pathlib import Path

__all__ = ["SUFFIX", "Segment"]

SUFFIX = ".jsonl"
GROWTH_BYTES = 256 * 1024
"""Reserved at once. What a dead owner had not filled is zeros behind its last line."""


class Segment:
    """An open, locked file. `shipped_bytes` is how far its lines have reached the keeper."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        stat = os.fstat(descriptor)
        self.size_bytes = stat.st_size
        self.modified_at = stat.st_mtime
        self.shipped_bytes = 0
        self._pages: mmap.mmap | None = None

    @classmethod
    def create(cls, path: Path) -> "Segment | None":
        """Make and lock a new file; None when the name is taken or an adopter was quicker."""
        try:
            return cls._lock(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return None

    @classmethod
    def take(cls, path: Path) -> "Segment | None":
        """Lock a dead owner's file; None when the owner lives or the file is gone."""
        try:
            return cls._lock(path, os.open(path, os.O_RDWR))
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
        """Write whole lines, or nothing. Errors: OSError when the disk has no room."""
        end_bytes = self.size_bytes + len(data)
        pages = self._pages
        if pages is None or end_bytes > len(pages):
            pages = self._reserve(end_bytes)
        pages[self.size_bytes : end_bytes] = data
        self.size_bytes = end_bytes

    def _reserve(self, end_bytes: int) -> mmap.mmap:
        room_bytes = -(-end_bytes // GROWTH_BYTES) * GROWTH_BYTES
        os.posix_fallocate(self._descriptor, 0, room_bytes)
        pages = mmap.mmap(self._descriptor, room_bytes)
        if self._pages is not None:
            self._pages.close()
        self._pages = pages
        return pages

    def read_lines(self, offset_bytes: int, limit_bytes: int) -> bytes:
        """Whole lines from an offset, about `limit_bytes` of them and at least one; empty at the end.

        What follows the last newline is not read: a line that was being written when its owner died, or zeros. One that
        was cut elsewhere has zeros in it, and is no JSON.
        """
        while True:
            data = os.pread(self._descriptor, min(limit_bytes, self.size_bytes - offset_bytes), offset_bytes)
            end = data.rfind(b"\n") + 1
            if end or len(data) < limit_bytes:
                return data[:end]
            limit_bytes *= 2

    def remove(self) -> None:
        """Unlink while the lock is held, so that nobody adopts what is done with."""
        self.path.unlink(missing_ok=True)
        self._close()

    def release(self) -> None:
        """Close the file and with it the lock."""
        if self._pages is not None:
            os.ftruncate(self._descriptor, self.size_bytes)
        self._close()

    def _close(self) -> None:
        if self._pages is not None:
            self._pages.close()
        os.close(self._descriptor)
