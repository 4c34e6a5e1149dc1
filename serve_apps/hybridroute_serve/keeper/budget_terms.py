"""Which dollar accounts there are, and what each may spend: the route's from the live policy, clients' from their file.

Read by the keeper, which holds the ledger, and by llm-proxy replicas, which must know who is budgeted. What cannot be
read changes nothing: the last good terms stay. Until there were any, nobody knows who may spend what.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from hybridroute_api.serving import LivePolicy
from hybridroute_api.windows import parse_window
from hybridroute_serve.auth.clients import Client, ClientsFileError, read_clients
from hybridroute_serve.budgets.accounts import AccountTerms

__all__ = ["CLIENT_PREFIX", "ROUTE_ACCOUNT", "BudgetTerms", "client_account"]

_LOG = logging.getLogger(__name__)

ROUTE_ACCOUNT = "route"
CLIENT_PREFIX = "client:"

_Stamp = tuple[str, int, int, int]


def client_account(client: str) -> str:
    """Name the account of a client with a budget of its own."""
    return f"{CLIENT_PREFIX}{client}"


class BudgetTerms:
    """The terms in force."""

    def __init__(self, read: Callable[[str], tuple[Client, ...]] = read_clients) -> None:
        self._read = read
        self._clients: tuple[Client, ...] | None = None
        self._stamp: _Stamp | None = None
        self._error: str | None = None
        self.terms: Mapping[str, AccountTerms] | None = None
        """By account; None until policy and clients could be read once."""

    async def refresh(self, policy: LivePolicy) -> bool:
        """Look at policy and file; say whether terms have changed."""
        try:
            clients = await self._refresh_clients(policy)
            terms = _make_terms(policy, clients)
        except (ClientsFileError, OSError, ValueError) as error:
            if str(error) != self._error:
                _LOG.error("budgets were not changed reason=%s", error)
            self._error = str(error)
            return False
        self._error = None
        if terms == self.terms:
            return False
        self.terms = terms
        return True

    async def _refresh_clients(self, policy: LivePolicy) -> tuple[Client, ...]:
        if policy.auth is None:
            self._clients, self._stamp = None, None
            return ()
        path = policy.auth.keys_file
        try:
            stamp = await asyncio.to_thread(_stamp_of, path)
            if stamp != self._stamp or self._clients is None:
                self._clients = await asyncio.to_thread(self._read, path)
                self._stamp = stamp
        except (ClientsFileError, OSError) as error:
            if self._clients is None:
                raise
            if str(error) != self._error:
                _LOG.error("clients' budgets were not changed reason=%s", error)
            self._error = str(error)
        return self._clients


def _make_terms(policy: LivePolicy, clients: tuple[Client, ...]) -> dict[str, AccountTerms]:
    terms: dict[str, AccountTerms] = {}
    if policy.budget is not None:
        terms[ROUTE_ACCOUNT] = AccountTerms(policy.budget.limit_nano_usd, policy.budget.window)
    for client in clients:
        if client.budget is not None:
            terms[client_account(client.name)] = client.budget
    for account in terms.values():
        parse_window(account.window)
    return terms


def _stamp_of(path: str) -> _Stamp:
    stat = Path(path).stat()
    return path, stat.st_mtime_ns, stat.st_size, stat.st_ino
