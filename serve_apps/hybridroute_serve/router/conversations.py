"""Where conversations with tools belong: a tool result goes to the path that made the call.

A replica remembers its own; others' are asked of the keeper, which learns them from the records. The key is a digest of
the messages before the answer that made the call, so nothing in an answer has to be read or changed.
"""

from collections import OrderedDict
from typing import Protocol

from hybridroute_api.vocabulary import PathName

__all__ = ["ConversationLookup", "Conversations"]

_CAPACITY = 10_000
"""Keys one replica remembers: about 1 MB."""


class ConversationLookup(Protocol):
    """Asks the keeper."""

    async def lookup_conversation(self, key: str) -> PathName | None:
        """Return the path on record, or None when there is none or the keeper is away."""
        ...


class Conversations:
    """Recently served conversations of this replica in front of the keeper's."""

    def __init__(self, keeper: ConversationLookup) -> None:
        self._keeper = keeper
        self._recent: OrderedDict[str, PathName] = OrderedDict()

    def remember_path(self, key: str, path: PathName) -> None:
        """Note where a conversation was served."""
        self._recent[key] = path
        self._recent.move_to_end(key)
        if len(self._recent) > _CAPACITY:
            self._recent.popitem(last=False)

    async def find_path(self, key: str) -> PathName | None:
        """Return where the conversation was served."""
        known = self._recent.get(key)
        return known if known is not None else await self._keeper.lookup_conversation(key)
