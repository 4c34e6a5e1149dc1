"""Budgets for tests: policies that have one, clients files, and a keeper that is asked over ASGI."""

from pathlib import Path
from typing import Any

import msgspec
from starlette.applications import Starlette

from hybridroute_api.records import Batch
from hybridroute_api.serving import AuthPolicy, BudgetPolicy, LivePolicy
from hybridroute_api.vocabulary import ExhaustedAction, InternalHeader
from hybridroute_serve.budgets.ledger import LeaseCall
from hybridroute_serve.keeper.budget_messages import (
    LEASES_PATH,
    RESERVATIONS_PATH,
    SETTLEMENTS_PATH,
    SHARES_PATH,
    ShareCall,
)
from hybridroute_serve.retries.shares import ShareRequest
from support.asgi_client import AsgiAnswer, AsgiClient
from support.keepers import TOKEN
from support.policies import a_policy

__all__ = ["KeeperAsker", "a_budgeted_policy", "write_clients"]


def a_budgeted_policy(
    limit_nano_usd: int | None = 10_000, window: str = "60m", *, keys_file: Path | None = None, **changes: Any
) -> LivePolicy:
    """A live policy with a budget, unless its limit is None."""
    budget = None
    if limit_nano_usd is not None:
        budget = BudgetPolicy(
            limit_nano_usd=limit_nano_usd,
            window=window,
            on_exhausted=ExhaustedAction.DEGRADE,
            on_exhausted_out_of_scope=ExhaustedAction.REJECT,
        )
    auth = AuthPolicy(keys_file=str(keys_file)) if keys_file is not None else None
    return a_policy(budget=budget, auth=auth, **changes)


def write_clients(path: Path, limits_usd: dict[str, str | None]) -> Path:
    """Replace the clients file: each client's limit, None for no budget."""
    lines = []
    for name, limit_usd in limits_usd.items():
        lines += [f"- name: {name}", f'  keys: ["sk-of-the-test-{name}-0123456789"]']
        if limit_usd is not None:
            lines.append(f'  budget: {{limitUSD: "{limit_usd}", window: 60m}}')
    draft = path.with_name(path.name + ".new")
    draft.write_text("\n".join(lines) + "\n")
    draft.replace(path)
    return path


class KeeperAsker:
    """Asks one keeper as an llm-proxy replica does."""

    def __init__(self, app: Starlette) -> None:
        self.app = app
        self._client = AsgiClient(app, root_path="/keeper")

    async def post(self, path: str, body: Any, *, token: str = TOKEN) -> AsgiAnswer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return await self._client.request("POST", path, data, {InternalHeader.TOKEN.value: token})

    async def ok(self, path: str, body: Any) -> Any:
        answer = await self.post(path, body)
        assert answer.status == 200, answer.body
        return answer.json()

    async def get(self, path: str) -> AsgiAnswer:
        return await self._client.request("GET", path, headers={InternalHeader.TOKEN.value: TOKEN})

    async def state(self) -> Any:
        return (await self.get("/state")).json()

    async def share(self, replica: str, sequence: int = 1) -> AsgiAnswer:
        """As a replica that holds nothing and has seen nothing."""
        return await self.post(SHARES_PATH, ShareCall(ShareRequest(replica, sequence, None), ()))

    async def lease(self, need: int, *, replica: str = "p1", account: str = "route", **said: Any) -> Any:
        call = LeaseCall(
            sequence=1,
            replica=replica,
            account=account,
            lease_id=said.get("lease_id"),
            granted_nano_usd=said.get("granted", 0),
            settled_nano_usd=said.get("settled", 0),
            returned_nano_usd=said.get("returned", 0),
            need_nano_usd=need,
            refill=said.get("refill", False),
        )
        return await self.ok(LEASES_PATH, call)

    async def reserve(
        self, attempt_id: str, nano_usd: int, *, replica: str = "p1", accounts: tuple[str, ...] = ("route",)
    ) -> Any:
        claim = {
            "attempt_id": attempt_id,
            "replica": replica,
            "accounts": accounts,
            "nano_usd": nano_usd,
        }
        return await self.ok(RESERVATIONS_PATH, claim)

    async def settle(self, attempt_id: str, billed: int | None) -> Any:
        return await self.ok(SETTLEMENTS_PATH, {"attempt_id": attempt_id, "billed_nano_usd": billed})

    async def report(self, batch: Batch) -> None:
        await self.ok("/internal/batch", batch)
