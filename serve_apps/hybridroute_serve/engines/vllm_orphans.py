"""Ends an engine's processes with the replica that started them.

vLLM's engine core is a process of its own. A replica that is killed cannot end it, and it would hold its accelerator
for ever. vLLM loads this plugin, by its entry point, in each of its processes; it does nothing in those of another
owner.
"""

import multiprocessing
import multiprocessing.connection
import os
import threading

__all__ = ["OWNED", "end_with_parent"]

OWNED = "HYBRIDROUTE_ENGINE"
"""Environment variable that the engine's processes inherit from the replica."""


def end_with_parent() -> None:
    """Watch the process that started this one; end when it does."""
    parent = multiprocessing.parent_process()
    if parent is None or OWNED not in os.environ:
        return
    threading.Thread(target=_wait, args=(parent.sentinel,), name="end-with-parent", daemon=True).start()


def _wait(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)
