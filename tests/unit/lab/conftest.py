"""What all tests of the lab share."""

from support.one_thread import one_thread

__all__ = ["one_thread"]
