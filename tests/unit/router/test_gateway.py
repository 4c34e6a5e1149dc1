"""Keys and money through the whole gateway: router, llm-proxy and keeper as they run, provider and SLM scripted."""

import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from hybridroute_api.serving import AuthPolicy, BudgetPolicy, LivePolicy, LlmPolicy
from hybridroute_api.vocabulary import ExhaustedAction, PathName
from support.client_files import ClientsFile
from support.eventually import eventually
from support.gateway_bench import Answered, GatewayBench, running_gateway
from support.path_apps import sse
from support.policies import a_policy, a_retry_policy, an_upstream
from support.router_bench import CARD, SONNET, streaming
from support.upstream import ScriptedUpstream, answer_json, chat_answer, running_upstream

RICH_KEY, POOR_KEY, CLINIC_KEY = "sk-rich-0123456789abc", "sk-poor-0123456789abc", "sk-clin-0123456789abc"
PROVIDER_KEY = "sk-provider-0123456789"
FRANCE = "what is the capital of france"
ONE_USD = 10**9
ANSWER_NANO_USD = 450_000
"""What the provider's usual answer costs."""


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream(answer_json(chat_answer())) as made:
        yield made


@pytest.fixture
def policy(tmp_path: Path, upstream: ScriptedUpstream) -> Callable[..., LivePolicy]:
    """A route that escalates everything; known requests are fit for the SLM."""
    file = ClientsFile(tmp_path / "clients.yaml")
    file.write(
        {"name": "rich", "keys": [RICH_KEY]},
        {"name": "poor", "keys": [POOR_KEY], "budget": {"limitUSD": "0.000001"}},
        {"name": "clinic", "keys": [CLINIC_KEY], "localOnly": True},
    )
    (tmp_path / "provider-key").write_text(PROVIDER_KEY)
    credentials = str(tmp_path / "provider-key")

    def make(limit_nano_usd: int, window: str = "24h") -> LivePolicy:
        routing = a_policy().routing.model_copy(update={"threshold": 1.0, "scope_threshold": 0.5})
        return a_policy(
            routing=routing,
            llm=LlmPolicy(
                upstreams=(an_upstream(base_url=upstream.base_url, credential_file=credentials),),
                retries=a_retry_policy(),
            ),
            auth=AuthPolicy(keys_file=str(file.path)),
            budget=BudgetPolicy(
                limit_nano_usd=limit_nano_usd,
                window=window,
                on_exhausted=ExhaustedAction.DEGRADE,
                on_exhausted_out_of_scope=ExhaustedAction.REJECT,
            ),
        )

    return make


async def serves_llm(gateway: GatewayBench) -> None:
    """Wait until the llm-proxy has its policy and its dollars."""

    async def served() -> bool:
        answer = await gateway.chat(SONNET, RICH_KEY)
        return answer.headers.get("x-hybridroute-gate") == "confidence" and answer.status == 200

    await eventually(served, 15.0)


async def test_a_clients_spent_budget_is_its_own_affair(embedder, tmp_path, policy, upstream):
    async with running_gateway(embedder, tmp_path, policy(100 * ONE_USD)) as gateway:
        await serves_llm(gateway)
        before = upstream.attempts
        degraded = await gateway.chat(CARD, POOR_KEY)
        refused = await gateway.chat(FRANCE, POOR_KEY)
        spent_on_the_poor = upstream.attempts - before
        rich = await gateway.chat(FRANCE, RICH_KEY)
        local = await gateway.chat(SONNET, CLINIC_KEY)
        told = await gateway.explain(degraded)

        assert (degraded.status, degraded.headers["x-hybridroute-path"]) == (200, "slm")
        assert (refused.status, "budget_exhausted" in refused.text) == (429, True)
        assert {degraded.headers["x-hybridroute-gate"], refused.headers["x-hybridroute-gate"]} == {"budget"}
        assert spent_on_the_poor == 0
        assert (rich.status, rich.headers["x-hybridroute-path"]) == (200, "llm")
        assert (local.status, local.headers["x-hybridroute-path"]) == (200, "slm")
        assert "gate budget: llm unaffordable: The dollar budget of this API key does not bear" in told
        assert "client poor USD 0.000001 per 24h" in told
        assert "; client poor; " in told


async def test_a_spent_route_degrades_what_the_slm_is_fit_for_and_refuses_the_rest(
    embedder, tmp_path, policy, upstream
):
    async with running_gateway(embedder, tmp_path, policy(1)) as gateway:

        async def exhausted() -> bool:
            answer = await gateway.chat(FRANCE, RICH_KEY)
            return answer.status == 429 and "budget_exhausted" in answer.text

        await eventually(exhausted, 15.0)
        degraded = await gateway.chat(CARD, RICH_KEY)
        gateway.slm.handlers[PathName.SLM] = streaming([sse("hi"), b"data: [DONE]\n\n"])
        streamed = await gateway.chat(CARD, RICH_KEY, stream=True)

        assert [answer.status for answer in (degraded, streamed)] == [200, 200]
        assert {answer.headers["x-hybridroute-gate"] for answer in (degraded, streamed)} == {"budget"}
        assert upstream.attempts == 0


@pytest.mark.parametrize("window", ["60m", "1d@Europe/Berlin", "month"])
async def test_after_the_window_has_turned_service_resumes(embedder, tmp_path, policy, upstream, window):
    ahead_seconds = 0.0

    def clock() -> float:
        return time.time() + ahead_seconds

    live = policy(2_000_000, window)
    async with running_gateway(embedder, tmp_path, live, clock=clock) as gateway:
        await serves_llm(gateway)
        refused: list[Answered] = []

        async def is_spent() -> bool:
            answer = await gateway.chat(FRANCE, RICH_KEY)
            if answer.status == 429:
                refused.append(answer)
            return answer.status == 429

        await eventually(is_spent, 15.0)
        assert "budget_exhausted" in refused[0].text
        assert upstream.attempts * ANSWER_NANO_USD <= 2_000_000
        resets_at = int(refused[0].headers["x-hybridroute-budget-resets-at"])
        ahead_seconds = resets_at - time.time()

        async def serves() -> bool:
            return (await gateway.chat(FRANCE, RICH_KEY)).status == 200

        await eventually(serves, 15.0)


async def test_no_key_is_in_anything_that_a_run_leaves_behind(embedder, tmp_path, policy, upstream, caplog):
    """Clients' keys, the provider's, and keys that nobody has: in files, metrics, records, state, logs and answers."""
    caplog.set_level("DEBUG")
    seen = []
    async with running_gateway(embedder, tmp_path, policy(100 * ONE_USD)) as gateway:
        await serves_llm(gateway)
        for key in (RICH_KEY, POOR_KEY, CLINIC_KEY, "sk-nobody-0123456789", None):
            for text in (CARD, SONNET, FRANCE):
                answer = await gateway.chat(text, key)
                seen += [answer.text, repr(answer.headers)]
        seen.append(await gateway.explain(answer))
        for path in ("/state", "/records", "/costs", "/metrics"):
            found = await gateway.keeper(path)
            assert found.status == 200
            seen.append(found.text)
        assert upstream.requests[0].headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    given = {tmp_path / "clients.yaml", tmp_path / "provider-key"}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path not in given]
    seen += [path.read_bytes().decode("latin-1") for path in written]

    key = re.compile("sk-[a-z]|0123456789a|0123456789\\b")
    assert written
    assert all(key.search(path.read_text()) for path in given)
    assert not [text for text in (*seen, caplog.text) if key.search(text)]
