"""The keeper's ledger in the ConfigMap that the operator makes, under the rights that it grants, on a real server."""

import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridroute_serve.budgets.accounts import AccountTerms
from hybridroute_serve.budgets.journalled import JournalledLedger, open_ledger
from hybridroute_serve.budgets.ledger import Claim, Denied, Reserved, reserve
from hybridroute_serve.budgets.store import FencedError, StoreUnavailableError
from hybridroute_serve.keeper.api_server import ApiAccess, ApiConnection, ApiTroubleError, ConfigMap
from hybridroute_serve.keeper.config_map_store import ConfigMapLedgerStore
from support.api_proxy import LOST, Call, run_api_proxy
from support.api_server import ApiServer
from support.clocks import JumpingClock
from support.operator_process import OperatorProcess
from support.routes import route_document

NAMESPACE = "ledger"
MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
TERMS = {"route": AccountTerms(1_000_000, "24h")}
LIVES = itertools.count()


@pytest.fixture
def route(cluster: ApiServer, operator: OperatorProcess) -> Iterator[str]:
    """A route whose objects are there; its ledger is one that has never begun."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    assert cluster.apply(body, f"/api/v1/namespaces/{NAMESPACE}")[0] in (200, 201)
    path = f"/apis/hybridroute.dev/v1alpha1/namespaces/{NAMESPACE}/hybridroutes/support"
    status, made = cluster.apply(route_document(), path)
    assert status == 201
    bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/rolebindings"
    for child in (f"{MAPS}/support-ledger", f"{MAPS}/support-live", f"{bindings}/support-gateway"):
        # Not those of the route of before, which the garbage collector takes in its own time.
        cluster.wait_for(child, lambda code, item: code == 200 and owners(item) == [made["metadata"]["uid"]])
    yield path
    assert cluster.request("DELETE", path)[0] == 200
    cluster.wait_for(f"{MAPS}/support-ledger", lambda code, _: code == 404)


def owners(child: dict[str, Any]) -> list[str]:
    return [owner["uid"] for owner in child["metadata"]["ownerReferences"]]


Open = Callable[[str, str], ConfigMap]


@pytest.fixture
async def open_map(cluster: ApiServer, route: str, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens ConfigMaps as the gateway's account does."""
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/support-gateway"
    cluster.wait_for(accounts, lambda code, _: code == 200)
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}}
    status, answer = cluster.request("POST", f"{accounts}/token", asked)
    assert status == 201, answer
    token = tmp_path / "token"
    token.write_text(answer["status"]["token"])
    opened: list[ApiConnection] = []

    def make(url: str, name: str) -> ConfigMap:
        opened.append(ApiConnection(ApiAccess(url, token, None)))
        return ConfigMap(opened[-1], NAMESPACE, name)

    yield make
    for connection in opened:
        await connection.stop()


async def open_for(config_map: ConfigMap) -> JournalledLedger:
    """Open the ledger as a keeper does; its pace takes no time."""
    clock = JumpingClock()
    store = ConfigMapLedgerStore(config_map, monotonic=clock, sleep=clock.sleep)
    return await open_ledger(store, TERMS, 1_761_400_000.0, life=f"life-{next(LIVES)}")


async def claim(ledger: JournalledLedger, number: int) -> Reserved | Denied:
    asked = Claim(f"r{number}/llm/1", "p1", ("route",), 1_000)
    [answer] = await ledger.commit([lambda state: reserve(state, asked, 1_761_400_000.0)])
    assert isinstance(answer, Reserved | Denied)
    return answer


async def test_two_keepers_at_once_the_newer_fences_the_older(cluster: ApiServer, open_map: Open) -> None:
    old = await open_for(open_map(cluster.url, "support-ledger"))
    assert await claim(old, 1) == Reserved(1_000)
    new = await open_for(open_map(cluster.url, "support-ledger"))
    assert await claim(new, 2) == Reserved(1_000)
    for _ in range(2):
        with pytest.raises(FencedError):
            await claim(old, 3)
    assert set(new.state.reservations) == {"r1/llm/1", "r2/llm/1"}


async def test_conflicts_and_failures_of_the_api_server_lose_and_double_nothing(
    cluster: ApiServer, open_map: Open, tmp_path: Path
) -> None:
    choose = random.Random(20261124)

    def fail(call: Call) -> int | None:
        if choose.random() < 0.15:
            # Somebody else writes between our read and our write.
            note = {"metadata": {"annotations": {"somebody": str(call.number)}}}
            cluster.request("PATCH", f"{MAPS}/support-ledger", note, kind="application/merge-patch+json")
        return choose.choice([None] * 6 + [429, 500, 503, LOST])

    with run_api_proxy(cluster, tmp_path) as proxy:
        ledger = await open_for(open_map(proxy.server.url, "support-ledger"))
        proxy.fault = fail
        granted = 0
        while granted < 40 or proxy.faults < 30:
            try:
                granted += await claim(ledger, granted) == Reserved(1_000)
            except StoreUnavailableError:
                continue
    again = await open_for(open_map(cluster.url, "support-ledger"))
    assert set(again.state.reservations) == {f"r{number}/llm/1" for number in range(granted)}


async def test_a_ledger_that_is_deleted_is_made_again_exhausted(cluster: ApiServer, open_map: Open) -> None:
    ledger = await open_for(open_map(cluster.url, "support-ledger"))
    assert await claim(ledger, 1) == Reserved(1_000)
    assert cluster.request("DELETE", f"{MAPS}/support-ledger")[0] == 200
    made = cluster.wait_for(f"{MAPS}/support-ledger", lambda code, _: code == 200)
    assert made["data"] == {"past": "unknown"}
    denied = await claim(await open_for(open_map(cluster.url, "support-ledger")), 2)
    assert isinstance(denied, Denied)
    assert denied.past_unknown


async def test_the_gateways_account_may_do_no_more(cluster: ApiServer, open_map: Open) -> None:
    live = await open_map(cluster.url, "support-live").read()
    assert "live.json" in live["data"]
    with pytest.raises(ApiTroubleError, match="answer 403"):
        await open_map(cluster.url, "support-live").patch(live["metadata"]["resourceVersion"], {"a": "b"})
    with pytest.raises(ApiTroubleError, match="answer 403"):
        await open_map(cluster.url, "kube-root-ca.crt").read()
    with pytest.raises(ApiTroubleError, match="answer 403"):
        await open_map(cluster.url, "other-ledger").patch("1", {"a": "b"})
