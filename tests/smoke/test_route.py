"""What a new user does: ask both paths with the OpenAI SDK, have it explained, look at the costs, stop it."""

import io
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from support.live_route import LOCAL_PROMPT, REMOTE_PROMPT, LiveRoute, example_route, run_command


@pytest_asyncio.fixture(loop_scope="session")
async def client(route: LiveRoute) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key="unused") as made:
        yield made


def asked(prompt: str) -> list:
    return [{"role": "user", "content": prompt}]


@pytest.mark.parametrize(("prompt", "path"), [(LOCAL_PROMPT, "slm"), (REMOTE_PROMPT, "llm")])
async def test_both_paths_answer_and_are_explained(
    route: LiveRoute, client: AsyncOpenAI, prompt: str, path: str
) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=asked(prompt), max_tokens=24
    )
    answer = raw.parse()

    assert raw.headers["x-hybridroute-path"] == path
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    request_id = raw.headers["x-hybridroute-request-id"]
    # Not through Serve, which would name it otherwise (decision 20).
    assert answer._request_id == request_id
    await route.record(request_id, attempts=1)
    status, line, _ = await route.command("explain", request_id)
    assert status == 0
    assert len(line.strip().splitlines()) == 1
    assert f"path {path}, gate confidence: confidence 0." in line
    assert f"{answer.usage.prompt_tokens}+{answer.usage.completion_tokens} tokens" in line
    if path == "llm":
        assert "local-stand-in" in line
        assert "not from a real model" in answer.choices[0].message.content


@pytest.mark.parametrize(("prompt", "path"), [(LOCAL_PROMPT, "slm"), (REMOTE_PROMPT, "llm")])
async def test_both_paths_stream(client: AsyncOpenAI, prompt: str, path: str) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="support",
        messages=asked(prompt),
        max_tokens=24,
        stream=True,
        stream_options={"include_usage": True},
    )
    assert raw.headers["x-hybridroute-path"] == path
    chunks = [chunk async for chunk in raw.parse()]

    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1
    assert chunks[-1].usage is not None


async def test_the_openai_surface_of_the_slm(client: AsyncOpenAI) -> None:
    schema = {
        "type": "json_schema",
        "json_schema": {
            "name": "answer",
            "schema": {
                "type": "object",
                "properties": {"ok": {"type": "boolean"}},
                "required": ["ok"],
                "additionalProperties": False,
            },
        },
    }
    shaped = await client.chat.completions.create(
        model="slm", messages=asked("Is water wet?"), response_format=schema, max_tokens=32
    )
    assert isinstance(json.loads(shaped.choices[0].message.content or "")["ok"], bool)

    sure = await client.chat.completions.create(
        model="slm", messages=asked("Hi"), logprobs=True, top_logprobs=2, max_tokens=3, seed=7, temperature=0
    )
    assert sure.choices[0].logprobs is not None
    assert len(sure.choices[0].logprobs.content or []) > 0

    several = await client.chat.completions.create(model="slm", messages=asked("Hi"), n=2, max_tokens=3)
    assert len(several.choices) == 2

    stopped = await client.completions.create(model="slm", prompt="1, 2, 3, 4,", stop=["7"], max_tokens=24)
    assert "7" not in stopped.choices[0].text

    assert [model.id for model in (await client.models.list()).data] == [
        "hybridroute",
        "support",
        "slm",
        "llm",
    ]


async def test_wrong_requests_get_openai_errors(client: AsyncOpenAI, route: LiveRoute) -> None:
    with pytest.raises(openai.NotFoundError, match="nope"):
        await client.chat.completions.create(model="nope", messages=asked("hi"))
    with pytest.raises(openai.NotFoundError, match="not supported"):
        await client.embeddings.create(model="slm", input="hi")
    with pytest.raises(openai.BadRequestError, match="messages"):
        await client.chat.completions.create(model="slm", messages=[])
    too_large = b'{"model":"slm","messages":[{"role":"user","content":"' + b"x" * (17 << 20)
    async with route.session.post(f"{route.url}/v1/chat/completions", data=io.BytesIO(too_large)) as answer:
        assert answer.status == 413
        assert (await answer.json())["error"]["code"] == "body_too_large"


@pytest.mark.parametrize("size", [100_000, 1_000_000])
async def test_long_prompts_are_escalated_by_capability(client: AsyncOpenAI, size: int) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=asked("word " * (size // 5)), max_tokens=8
    )
    assert raw.headers["x-hybridroute-path"] == "llm"
    assert raw.headers["x-hybridroute-gate"] == "capability"


async def test_costs_and_metrics_add_up_to_the_records(route: LiveRoute, client: AsyncOpenAI) -> None:
    for prompt in (LOCAL_PROMPT, REMOTE_PROMPT):
        await client.chat.completions.create(model="hybridroute", messages=asked(prompt), max_tokens=8)

    async def all_priced() -> bool:
        records = await route.records_since(0)
        served = sum(record["path"] is not None and record["status"] == 200 for record in records)
        costs = await route.keeper("/costs")
        return sum(path["requests"] for path in costs["paths"].values()) == served > 0

    await route.until(all_priced)
    costs = await route.json("costs")
    records = await route.records_since(0)
    by_path = {
        path: sum(Decimal(record["cost_usd"]) for record in records if record["path"] == path)
        for path in ("slm", "llm")
    }
    assert {path: Decimal(costs["paths"][path]["usd"]) for path in by_path} == by_path
    assert all(usd > 0 for usd in by_path.values())
    assert Decimal(costs["paths"]["slm"]["idle_usd"]) > 0
    spent = sum(by_path.values()) + Decimal(costs["paths"]["slm"]["idle_usd"])
    assert Decimal(costs["saved_usd"]) == Decimal(costs["all_llm_usd"]) - spent

    token = route.directory.read_metrics_token()
    async with route.session.get(
        f"{route.url}/keeper/metrics", headers={"authorization": f"Bearer {token}"}
    ) as answer:
        families = text_string_to_metric_families(await answer.text())
    samples = [sample for family in families for sample in family.samples]
    for path in by_path:
        exported = sum(
            sample.value
            for sample in samples
            if sample.name == "hybridroute_requests_total" and sample.labels["path"] == path
        )
        assert exported == sum(record["path"] == path for record in records)


async def test_what_replicas_log_is_collected_at_once(route: LiveRoute) -> None:
    logs = Path(route.run.ray_dir) / "session_latest" / "logs"
    lines = [line for file in logs.glob("worker-*.err") for line in file.read_text().splitlines()]
    for told in ("keeper has started", "applied the live policy", "backend turned"):
        assert [line for line in lines if " INFO hybridroute_serve." in line and told in line], told


async def test_status_names_the_stand_in(route: LiveRoute) -> None:
    document = await route.json("status")

    assert document["ready"]
    assert document["stand_in"]
    assert set(document["applications"]) == {"router", "llm-proxy", "slm", "keeper", "stand-in"}
    assert set(document["applications"].values()) == {"RUNNING"}


async def test_replay_counts_paths_gates_and_agreement(route: LiveRoute) -> None:
    prompts = [
        {"prompt": LOCAL_PROMPT, "expected_path": "slm"},
        {"prompt": REMOTE_PROMPT, "expected_path": "llm"},
    ]
    file = route.home / "prompts.jsonl"
    file.write_text("\n".join(json.dumps(prompt) for prompt in prompts * 3))

    summary = await route.json("replay", str(file), "--max-tokens", "4", "--limit", "4")

    assert (summary["requests"], summary["errors"]) == (4, 0)
    assert {path: figures["requests"] for path, figures in summary["paths"].items()} == {"slm": 2, "llm": 2}
    assert summary["gates"] == {"confidence": 4}
    assert summary["expected"] == {"slm": {"requests": 2, "share": 1.0}, "llm": {"requests": 2, "share": 1.0}}


async def test_up_again_changes_the_policy_in_place(route: LiveRoute, client: AsyncOpenAI) -> None:
    before = route.processes("ServeReplica")
    same = await route.json("up", "-f", str(route.file))
    assert same["changed"] == {"policy": False, "deployment": False}
    try:
        await route.change({"spec": {"mode": "LLMOnly"}})
        raw = await client.chat.completions.with_raw_response.create(
            model="hybridroute", messages=asked(LOCAL_PROMPT), max_tokens=8
        )
        assert (raw.headers["x-hybridroute-path"], raw.headers["x-hybridroute-gate"]) == ("llm", "forced")
    finally:
        await route.change({})
    assert {process.pid for process in before} == {process.pid for process in route.processes("ServeReplica")}


async def test_a_busy_port_and_a_route_that_is_not_up_are_said_plainly(route: LiveRoute) -> None:
    other = example_route({"metadata": {"name": "other"}})
    file = route.home / "other.yaml"
    file.write_text(other)
    port = str(route.run.ports.http)

    status, _, err = await route.command("up", "-f", str(file), "--port", port, "--detach")
    assert status == 1
    assert f"port {port} on 127.0.0.1 is in use; choose another with --port" in err
    status, _, err = await route.command("status", "--route", "other")
    assert status == 1
    assert "route other is not up" in err


async def test_strict_refuses_what_means_nothing_here(route: LiveRoute) -> None:
    file = route.home / "cluster.yaml"
    file.write_text(example_route({"spec": {"slm": {"resources": {"memory": "4Gi"}}}}))

    status, _, err = await route.command("up", "-f", str(file), "--strict")

    assert status == 1
    assert "spec.slm.resources.memory" in err


async def test_down_twice_is_no_error(tmp_path) -> None:
    for _ in range(2):
        status, out, _ = await run_command(
            "down", environ={"HYBRIDROUTE_HOME": str(tmp_path), "PATH": "/usr/bin"}
        )
        assert (status, out.strip()) == (0, "nothing to stop: no route is up")
