"""A cascade on a route that really runs: llama.cpp's own logprobs decide, before the first byte, who answers."""

import csv
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from hybridroute_serve.routing.artifact.file import decode_artifact
from serve.conftest import FAST
from support.lab_rows import outcomes
from support.live_route import LOCAL_PROMPT, LiveRoute, example_route
from support.routes import merged
from support.upstream import (
    DONE,
    ScriptedUpstream,
    answer_json,
    chat_answer,
    content_event,
    finish_event,
    role_event,
    stream,
    usage_event,
)

STREAM = [role_event(), content_event("from the provider"), finish_event(), usage_event(), DONE]
_CHANGING = re.compile(rb'"(id|created|cached_tokens)":("[^"]*"|\d+)')
"""Two answers to one question differ in these: the second finds its prompt in the engine's cache."""


def cascade(**fields: Any) -> dict[str, Any]:
    return merged(FAST, {"spec": {"routing": {"cascade": fields}}})


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def cleared(route: LiveRoute, provider: ScriptedUpstream) -> AsyncIterator[None]:
    provider.default = answer_json(chat_answer())
    try:
        yield
    finally:
        await route.change(FAST)


async def ask(route: LiveRoute, **fields: Any) -> tuple[bytes, dict[str, str]]:
    """Ask for something that the SLM is trusted with."""
    answer = await route.chat(LOCAL_PROMPT, **{"temperature": 0, "max_tokens": 40, **fields})
    body = await answer.read()
    assert answer.status == 200, body
    return body, {name.lower(): value for name, value in answer.headers.items()}


async def counted(route: LiveRoute) -> dict[str, float]:
    """Return the cascade's verdicts as a scraper reads them."""
    token = {"authorization": f"Bearer {route.directory.read_metrics_token()}"}
    async with route.session.get(f"{route.url}/keeper/metrics", headers=token) as answer:
        text = await answer.text()
    return {
        sample.labels["verdict"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "hybridroute_cascade_total"
    }


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_a_sure_answer_passes_as_if_nobody_had_looked(route: LiveRoute, more: dict[str, Any]) -> None:
    before, _ = await ask(route, **more)
    await route.change(cascade(threshold="0"))
    body, headers = await ask(route, **more)
    assert _CHANGING.sub(b"", body) == _CHANGING.sub(b"", before)
    assert (headers["x-hybridroute-path"], headers["x-hybridroute-gate"]) == ("slm", "confidence")
    said = re.fullmatch(
        r"passed: margin (0\.\d{3}) >= 0\.000 over 16 tokens", headers["x-hybridroute-cascade"]
    )
    assert said
    assert 0.0 < float(said[1]) < 1.0
    assert "x-hybridroute-cascade-margin" not in headers
    document = await route.record(headers["x-hybridroute-request-id"], attempts=1)
    assert document["record"]["cascade"]["verdict"] == "passed"
    assert document["attempts"][0]["usage"]["completion_tokens"] > 1


@pytest.mark.parametrize("more", [{}, {"stream": True}])
async def test_a_doubtful_answer_is_given_up_and_both_attempts_are_paid(
    route: LiveRoute, provider: ScriptedUpstream, more: dict[str, Any]
) -> None:
    await route.change(cascade(threshold="1", maxShare="1", tokens=4))
    if more:
        provider.default = stream(STREAM)
    before = await counted(route)
    # Some hundred tokens of work, were it not given up after the first few.
    body, headers = await ask(route, **more, **({"max_tokens": 400} if more else {}))
    assert (b"from the provider" if more else b"Hello there") in body
    assert (headers["x-hybridroute-path"], headers["x-hybridroute-gate"]) == ("llm", "cascade")
    assert headers["x-hybridroute-cascade"].startswith("escalated: margin 0.")

    request_id = headers["x-hybridroute-request-id"]
    document = await route.record(request_id, attempts=2)
    slm, llm = sorted(document["attempts"], key=lambda attempt: attempt["started_at"])
    assert (slm["path"], slm["outcome"]) == ("slm", "cancelled" if more else "ok")
    assert (llm["path"], llm["outcome"], llm["usage"]["completion_tokens"]) == ("llm", "ok", 20)
    if more:
        assert slm["usage"]["completion_tokens"] < 200
    assert slm["cost_nano_usd"] > 0
    assert llm["cost_nano_usd"] > 0
    record = document["record"]
    assert (record["path"], record["gate"], record["failed_over_from"]) == ("llm", "cascade", None)
    status, out, _ = await route.command("explain", request_id)
    assert status == 0
    told = " ".join(out.split())
    assert re.search(
        r"gate cascade: margin 0\.\d{3} < 1\.000 over 4 tokens; kept on the slm by confidence", told
    )

    async def scraped() -> bool:
        return (await counted(route)).get("escalated", 0.0) == before.get("escalated", 0.0) + 1.0

    await route.until(scraped)

    async def idle() -> bool:
        state = await route.keeper("/state")
        return all(int(one["facts"].get("engine_running", "0")) == 0 for one in state["replicas"]["slm"])

    await route.until(idle)


async def test_the_official_client_sees_a_plain_answer(route: LiveRoute) -> None:
    await route.change(cascade(threshold="0", tokens=8))
    async with AsyncOpenAI(api_key="none", base_url=f"{route.url}/v1", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": LOCAL_PROMPT}]
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="hybridroute", messages=messages, max_tokens=12, stream=True
            )
        ]
        assert all(choice.logprobs is None for chunk in chunks for choice in chunk.choices)
        own = await client.chat.completions.create(
            model="hybridroute", messages=messages, max_tokens=12, logprobs=True, top_logprobs=2
        )
        told = own.choices[0].logprobs
        assert told is not None
        assert told.content is not None
        assert all(len(token.top_logprobs) == 2 for token in told.content)


async def test_beyond_its_share_the_slm_answers(route: LiveRoute) -> None:
    await route.change(cascade(threshold="1", maxShare="0.001"))
    # The tests before may have left a saved-up escalation or ten.
    for _ in range(30):
        _, headers = await ask(route, max_tokens=4)
        if headers["x-hybridroute-path"] == "slm":
            break
    assert headers["x-hybridroute-cascade"].startswith("capped: margin 0.")
    assert headers["x-hybridroute-gate"] == "confidence"


async def test_an_llm_that_is_away_lets_the_answer_stand(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    await route.change(cascade(threshold="1", maxShare="1"))
    provider.default = answer_json({"error": {"message": "no"}}, status=500)
    body, headers = await ask(route, max_tokens=4)
    assert json.loads(body)["model"] != "big-2025"
    assert (headers["x-hybridroute-path"], headers["x-hybridroute-gate"]) == ("slm", "confidence")
    record = (await route.record(headers["x-hybridroute-request-id"]))["record"]
    assert "but llm" in record["reason"]
    _, headers = await ask(route, max_tokens=4, stream=True)
    assert headers["x-hybridroute-cascade"] == "unavailable: not looked at"


async def test_a_spent_budget_lets_the_answer_stand(route: LiveRoute, provider: ScriptedUpstream) -> None:
    await route.change(merged(cascade(threshold="1", maxShare="1"), {"spec": {"budget": {"limitUSD": "0"}}}))

    async def stands() -> bool:
        _, headers = await ask(route, max_tokens=4, stream=True)
        return headers["x-hybridroute-cascade"] == "unaffordable: not looked at"

    # Until then the llm-proxy may use up what it has in hand.
    await route.until(stands)
    asked = provider.attempts
    _, headers = await ask(route, max_tokens=4, stream=True)
    assert headers["x-hybridroute-path"] == "slm"
    assert headers["x-hybridroute-cascade"] == "unaffordable: not looked at"
    assert provider.attempts == asked


def by_policy(**cascade: Any) -> str:
    """The example route with a policy in the place of examples, all of whose scope and confidence is kept."""
    document: dict[str, Any] = yaml.safe_load(example_route(FAST))
    document["spec"]["routing"] = {
        "policy": {"file": "margins.artifact"},
        "confidence": {"threshold": "0"},
        "scope": {"threshold": "-1"},
        "cascade": cascade,
    }
    return yaml.safe_dump(document)


async def test_the_routes_own_margins_calibrate_its_cascade(route: LiveRoute) -> None:
    """Margins are taken where nothing is escalated, written beside the labels, and become the threshold."""
    rows = outcomes(80)
    keeps_all = {"confidence": {"threshold": "0"}, "scope": {"threshold": "-1"}}
    await route.change(merged(cascade(threshold="0", tokens=8), {"spec": {"routing": keeps_all}}))

    async def looks_again() -> bool:
        _, headers = await ask(route, max_tokens=8)
        return headers["x-hybridroute-cascade"].startswith("passed: ")

    # After a budget that was spent nothing is looked at for some seconds.
    await route.until(looks_again)
    margins = []
    for prompt in rows.prompts:
        answer = await route.chat(prompt, max_tokens=8, temperature=0)
        await answer.read()
        said = re.match(r"passed: margin (\S+) ", answer.headers["x-hybridroute-cascade"])
        assert said
        margins.append(said[1])
    folder = route.file.parent
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "small", "large", "margin"])
        writer.writerows(zip(rows.prompts, rows.weak, rows.strong, margins, strict=True))
    made = folder / "margins.artifact"
    status, out, err = await route.command(
        *("calibrate", "--route", str(route.file), "--data", str(folder / "labels.csv"), "-o", str(made)),
        *("--weak-column", "small", "--strong-column", "large"),
        *("--margin-column", "margin", "--margin-tokens", "8"),
    )
    assert status == 0, (out, err)
    table = decode_artifact(made.read_bytes()).header.margins
    assert table is not None
    chosen = table.choose(0.0, 0.3, 8).threshold
    assert chosen is not None
    assert 0.0 < chosen < 1.0

    await route.use(by_policy(maxShare="0.3", tokens=8))
    seen: list[str] = []

    async def looked_at() -> bool:
        _, headers = await ask(route, max_tokens=8)
        seen.append(headers.get("x-hybridroute-cascade", ""))
        return f"{chosen:.3f} over 8 tokens" in seen[-1]

    await route.until(looked_at, 60.0)
    assert re.match(r"(passed|escalated|capped): margin ", seen[-1])
    status, out, _ = await route.command("status")
    assert f"cascade: threshold {chosen:.4f}, escalates at most 30 %" in " ".join(out.split())

    await route.use(by_policy(maxShare="0.3", tokens=16))

    async def says_why() -> bool:
        _, headers = await ask(route, max_tokens=8)
        return headers.get("x-hybridroute-cascade", "").startswith(
            "unset: the policy's margins are of 8 tokens"
        )

    await route.until(says_why, 60.0)
