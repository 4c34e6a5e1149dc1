"""Names of requests: ours, by which everything is kept, and the client's, which its answer repeats."""

import re
import secrets
from collections.abc import Callable

from hybridroute_serve.wire.asgi import Scope, find_header

__all__ = ["make_request_id", "presented_name"]

_NAME = re.compile(r"[!-~]{1,200}")


def make_request_id(wall_clock: Callable[[], float]) -> str:
    """Name a request by the millisecond in which it came, in 12 hexadecimal digits, and 80 random bits.

    Names that come one after the other stand one after the other in the keeper's indexes (decision 19).
    """
    return f"hr-{int(wall_clock() * 1000):012x}{secrets.token_hex(10)}"


def presented_name(scope: Scope) -> str | None:
    """Return the `x-request-id` that a request came with, if it may be repeated."""
    name = find_header(scope, "x-request-id")
    return name if name is not None and _NAME.fullmatch(name) else None
