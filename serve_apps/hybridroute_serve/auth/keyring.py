"""Which client a presented key belongs to, and the file behind it, read again when it changes.

The look-up is safe against timing by construction: a presented key is hashed, and the hash is hashed once more under
a secret of this process before anything is compared. Whoever measures how long a comparison takes learns about a
value that neither they nor we can turn into a key, and the time does not depend on the number of clients.
A file that cannot be used keeps the last good keyring in force and says so; without a last good one nobody is let in.
"""

import asyncio
import hashlib
import logging
import os
from collections.abc import Iterable
from pathlib import Path

from hybridroute_serve.auth.clients import Client, ClientsFileError, digest_key, read_clients

__all__ = ["Keyring", "KeyringFile"]

_log = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class Keyring:
    """Clients by key. Immutable."""

    def __init__(self, clients: Iterable[Client], blind: bytes) -> None:
        """`blind`: up to 64 random bytes that never leave the process."""
        self._blind = blind
        self._clients = {self._blinded(digest): client for client in clients for digest in client.key_digests}

    def find_client(self, key: str) -> Client | None:
        """Return whose key it is, or None."""
        return self._clients.get(self._blinded(digest_key(key)))

    def _blinded(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._blind, digest_size=32).digest()


class KeyringFile:
    """The keyring of one clients file. `refresh` often: an unchanged file costs one `stat`."""

    def __init__(self, path: str, *, blind: bytes) -> None:
        self._path = path
        self._blind = blind
        self._stamp: _Stamp | None = None
        self._keyring: Keyring | None = None
        self._problem: str | None = None

    @property
    def path(self) -> str:
        """The file."""
        return self._path

    @property
    def keyring(self) -> Keyring | None:
        """The last good one; None while there has been none, and then nobody is let in."""
        return self._keyring

    @property
    def problem(self) -> str | None:
        """Why the file as it is now is not in force; None when it is. Holds nothing of its content."""
        return self._problem

    async def refresh(self) -> None:
        """Read the file if it has changed. Never raises for a file that cannot be used."""
        stamp = _stamp_of(self._path)
        if stamp is not None and stamp == self._stamp:
            return
        try:
            # A thousand clients take a third of a second to parse.
            clients = await asyncio.to_thread(read_clients, self._path)
        except ClientsFileError as error:
            if self._problem != str(error):
                _log.warning("kept the last good keyring problem=%r", str(error))
            self._problem = str(error)
        else:
            self._keyring = Keyring(clients, self._blind)
            self._problem = None
            _log.info("read the clients file path=%s clients=%d", self._path, len(clients))
        self._stamp = stamp


def _stamp_of(path: str) -> _Stamp | None:
    try:
        status = os.stat(Path(path))  # noqa: PTH116 - one call, errors told apart below
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
