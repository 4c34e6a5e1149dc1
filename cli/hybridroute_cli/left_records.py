"""The records that a route leaves on this machine when it is taken down, read without its keeper.

Only for a route that is not up: a running one is asked, since its keeper knows what is not in the store yet.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridroute_cli.output import CommandError
from hybridroute_cli.rundir import RunDirectory, home_directory

if TYPE_CHECKING:
    from hybridroute_serve.keeper.reads import Reads

__all__ = ["LeftRecords", "find_left_records"]


@dataclass(frozen=True, slots=True)
class LeftRecords:
    """The store of one route that is down."""

    route: str
    file: Path

    def read_costs(self) -> dict[str, Any]:
        """Return the document of the keeper's `/costs`."""
        from hybridroute_serve.keeper.accounts import account_costs  # noqa: PLC0415 - commands start without it

        with self._reads() as reads:
            return account_costs(reads.read_totals())

    def read_request(self, request_id: str) -> dict[str, Any] | None:
        """Return the document of the keeper's `/records/<id>`; None when there is no such record."""
        from hybridroute_serve.keeper.documents import show_request  # noqa: PLC0415

        with self._reads() as reads:
            stored = reads.read_request(request_id)
            return None if stored is None else show_request(stored)

    @contextmanager
    def _reads(self) -> Iterator["Reads"]:
        from hybridroute_serve.keeper.reads import Reads  # noqa: PLC0415

        reads = Reads(self.file)
        try:
            yield reads
        except sqlite3.Error as error:
            raise CommandError(f"{self.file} cannot be read: {error}") from error
        finally:
            reads.close()


def find_left_records(route: str | None) -> LeftRecords | None:
    """Return what the named route, or the only one there ever was, left; None while one is up or nothing is there.

    Raises `CommandError` where several routes left records and none is named.
    """
    home = home_directory()
    names = sorted(path.name for path in home.glob("*") if route in (None, path.name))
    directories = [RunDirectory(home, name) for name in names]
    if any(directory.run_file.exists() for directory in directories):
        return None
    left = [directory for directory in directories if directory.records_file.is_file()]
    if len(left) > 1:
        listed = ", ".join(directory.root.name for directory in left)
        raise CommandError(f"no route is up; several left records: {listed}; choose one with --route")
    return LeftRecords(left[0].root.name, left[0].records_file) if left else None
