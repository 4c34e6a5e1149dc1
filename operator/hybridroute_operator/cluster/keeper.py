"""Asks a route's keeper for its state, over HTTP inside the cluster."""

import json
import logging
from typing import Any, Protocol

import aiohttp

from hybridroute_api.vocabulary import InternalHeader

__all__ = ["HttpKeeperReader", "KeeperReader", "new_keeper_session"]

_LOG = logging.getLogger(__name__)
_TIMEOUT = aiohttp.ClientTimeout(total=3.0)


class KeeperReader(Protocol):
    """Reads the keeper's `/state`."""

    async def read_state(self, gateway_url: str, token: str) -> dict[str, Any] | None:
        """Return the document, or None while the keeper does not answer. Never raises for its silence."""


def new_keeper_session() -> aiohttp.ClientSession:
    """Return a session that keeps no connection.

    A Service that comes later, or again, has an address that one kept from before would never learn.
    """
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))


class HttpKeeperReader:
    """The real one."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def read_state(self, gateway_url: str, token: str) -> dict[str, Any] | None:
        """Return the document, or None while the keeper does not answer."""
        headers = {InternalHeader.TOKEN.value: token}
        try:
            async with self._session.get(
                f"{gateway_url}/keeper/state", headers=headers, timeout=_TIMEOUT
            ) as answer:
                if answer.status != 200:
                    return None
                document: dict[str, Any] = json.loads(await answer.read())
                return document
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            _LOG.debug("keeper did not answer url=%s error=%s", gateway_url, type(error).__name__)
            return None
