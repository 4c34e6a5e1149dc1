"""Clients files for tests: a moment of their own for each version, so that none is mistaken for the one before."""

import itertools
import os
from pathlib import Path
from typing import Any

import yaml

__all__ = ["ClientsFile"]


class ClientsFile:
    """One file that is written again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seconds = itertools.count(1_000_000)

    def write(self, *clients: dict[str, Any]) -> None:
        self.write_text(yaml.safe_dump(list(clients)))

    def write_text(self, text: str) -> None:
        self.path.write_text(text)
        second = next(self._seconds)
        os.utime(self.path, (second, second))
