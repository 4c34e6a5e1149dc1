"""What journals say was settled in each dollar lease: with it a dead replica's leases end with an exact sum.

A part of the store: it runs inside the store's transactions, so a report that is sent twice is added once. Sums
outlive the records that they were added up from, and the keeper's process. Who ends leases: `dollars`.
"""

import json
import sqlite3
from collections.abc import Mapping, Sequence

__all__ = ["LeaseSums"]


class LeaseSums:
    """Rows of leases that attempts were reserved from."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def add(self, settled: Mapping[str, int]) -> None:
        """Add what reports that were not seen before settled in each lease, nano-USD."""
        self._connection.executemany(
            "INSERT INTO lease_sums (lease_id, settled_nano_usd) VALUES (?, ?) ON CONFLICT (lease_id)"
            " DO UPDATE SET settled_nano_usd = settled_nano_usd + excluded.settled_nano_usd",
            list(settled.items()),
        )

    def read(self, lease_ids: Sequence[str]) -> dict[str, int]:
        """Return the sums of these leases, nano-USD; without one nothing was reported."""
        return dict(
            self._connection.execute(
                "SELECT lease_id, settled_nano_usd FROM lease_sums"
                " WHERE lease_id IN (SELECT value FROM json_each(?))",
                (json.dumps(lease_ids),),
            )
        )

    def keep(self, lease_ids: Sequence[str]) -> None:
        """Forget all but these."""
        self._connection.execute(
            "DELETE FROM lease_sums WHERE lease_id NOT IN (SELECT value FROM json_each(?))",
            (json.dumps(lease_ids),),
        )
