"""Calls requests back from a path that has lost its last replica, where another path can serve them.

Such a request is not lost: the ingress holds it until a replica comes, and it would be answered in the end. But the
other path can answer now. What has begun to answer is left alone. No task a request: only its deadline is moved.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Recall", "RecalledError"]


class RecalledError(Exception):
    """The path has no replica left, and the request may go elsewhere."""


class Recall:
    """The requests that wait for the first content of one path and may go elsewhere."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self._recalled: set[asyncio.Timeout] = set()

    def recall_all(self) -> None:
        """Call back whoever waits now."""
        for deadline in self._waiting - self._recalled:
            self._recalled.add(deadline)
            deadline.reschedule(asyncio.get_running_loop().time())

    @contextmanager
    def waiting(self, deadline: asyncio.Timeout) -> Iterator[None]:
        """Let the wait under this deadline be called back. Raises `RecalledError` then."""
        self._waiting.add(deadline)
        try:
            yield
        except TimeoutError:
            if deadline in self._recalled:
                raise RecalledError from None
            raise
        finally:
            self._waiting.discard(deadline)
            self._recalled.discard(deadline)
