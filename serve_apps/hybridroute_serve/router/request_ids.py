"""Names of requests."""

import secrets
from collections.abc import Callable

__all__ = ["make_request_id"]


def make_request_id(wall_clock: Callable[[], float]) -> str:
    """Name a request by the millisecond in which it came, in 12 hexadecimal digits, and 80 random bits.

    Names that come one after the other stand one after the other in the keeper's indexes (decision 19).
    """
    return f"hr-{int(wall_clock() * 1000):012x}{secrets.token_hex(10)}"
