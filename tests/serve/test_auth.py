"""Who may ask, on a route that really runs, and that no key is anywhere but where it was put."""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI

from serve.conftest import FAST, PROVIDER_KEY
from support.client_files import ClientsFile
from support.live_route import LOCAL_PROMPT, REMOTE_PROMPT, LiveRoute
from support.routes import merged
from support.upstream import (
    ScriptedUpstream,
    answer_json,
    chat_answer,
    content_event,
    reset_before_answer,
    role_event,
    stream_cut,
)

BOT_KEY = "sk-client-bot-1f6e83c2d5a94b70"
NEW_KEY = "sk-client-new-77d09c14e2b8f635"
CLINIC_KEY = "sk-client-clinic-0b5d9a6c3e8f42"
SLOW_KEY = "sk-client-slow-c4a1f7e09d2b6835"
WRONG_KEY = "sk-client-nobody-5e2c8b0f9a7d1463"
KEYS = (PROVIDER_KEY, BOT_KEY, NEW_KEY, CLINIC_KEY, SLOW_KEY, WRONG_KEY)

BOT: dict[str, Any] = {"name": "bot", "keys": [BOT_KEY]}
CLINIC: dict[str, Any] = {"name": "clinic", "keys": [CLINIC_KEY], "localOnly": True}
SLOW: dict[str, Any] = {
    "name": "slow",
    "keys": [SLOW_KEY],
    "requestsPerMinute": 2,
    "tokensPerMinute": 100_000,
}
AUTH = merged(FAST, {"spec": {"auth": {"apiKeysFile": "clients.yaml"}}})


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def clients(session_route: LiveRoute) -> AsyncIterator[ClientsFile]:
    file = ClientsFile(session_route.file.parent / "clients.yaml")
    file.write(BOT, CLINIC, SLOW)
    await session_route.change(AUTH)
    try:
        yield file
    finally:
        await session_route.change(FAST)


@pytest.fixture(autouse=True)
def answers(provider: ScriptedUpstream) -> None:
    provider.default = answer_json(chat_answer())


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def asked(prompt: str) -> list[Any]:
    return [{"role": "user", "content": prompt}]


async def ask_until(route: LiveRoute, key: str, status: int) -> None:
    """Ask until a key is answered so: the file is looked at every second."""

    async def so() -> bool:
        answer = await route.chat(REMOTE_PROMPT, headers=bearer(key))
        await answer.read()
        return answer.status == status

    await route.until(so)


async def test_missing_and_wrong_keys(route: LiveRoute, provider: ScriptedUpstream) -> None:
    missing = await route.chat(REMOTE_PROMPT)
    assert missing.status == 401
    assert (await missing.json())["error"]["code"] == "api_key_missing"
    assert missing.headers["www-authenticate"] == "Bearer"

    async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key=WRONG_KEY) as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="hybridroute", messages=asked(REMOTE_PROMPT))
        assert refused.value.code == "invalid_api_key"
        assert WRONG_KEY not in str(refused.value)
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    assert provider.attempts == 0

    async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key=BOT_KEY) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="hybridroute", messages=asked(REMOTE_PROMPT), max_tokens=16
        )
    assert provider.attempts == 1
    assert provider.requests[0].headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    document = await route.record(raw.headers["x-hybridroute-request-id"], attempts=1)
    assert document["record"]["client"] == "bot"


@pytest.mark.parametrize("prompt", [LOCAL_PROMPT, REMOTE_PROMPT], ids=["local", "remote"])
async def test_local_only_key_never_reaches_the_provider(
    route: LiveRoute, provider: ScriptedUpstream, prompt: str
) -> None:
    answer = await route.chat(prompt, headers=bearer(CLINIC_KEY), max_tokens=4)
    await answer.read()
    assert answer.status == 200
    assert (answer.headers["x-hybridroute-path"], answer.headers["x-hybridroute-gate"]) == ("slm", "forced")
    document = await route.record(answer.headers["x-hybridroute-request-id"], attempts=1)
    assert "local-only key" in document["record"]["reason"]

    forced = await route.chat(prompt, headers=bearer(CLINIC_KEY), model="llm")
    assert (forced.status, (await forced.json())["error"]["code"]) == (403, "local_only_key")
    picture = [{"type": "image_url", "image_url": {"url": "https://pictures.example/1.png"}}]
    message = [{"role": "user", "content": picture}]
    seen = await route.chat(prompt, headers=bearer(CLINIC_KEY), messages=message)
    await seen.read()
    assert seen.status == 400
    assert provider.attempts == 0


async def test_local_only_key_when_everything_goes_to_the_llm(
    route: LiveRoute, provider: ScriptedUpstream
) -> None:
    try:
        await route.change(merged(AUTH, {"spec": {"mode": "LLMOnly"}}))
        answer = await route.chat(LOCAL_PROMPT, headers=bearer(CLINIC_KEY))
        assert (answer.status, (await answer.json())["error"]["code"]) == (503, "path_unavailable")
        other = await route.chat(LOCAL_PROMPT, headers=bearer(BOT_KEY))
        await other.read()
        assert other.headers["x-hybridroute-path"] == "llm"
        assert provider.attempts == 1
    finally:
        await route.change(AUTH)


async def test_rate_limit(route: LiveRoute, provider: ScriptedUpstream) -> None:
    remaining = []
    for _ in range(2):
        answer = await route.chat(REMOTE_PROMPT, headers=bearer(SLOW_KEY))
        await answer.read()
        assert answer.status == 200
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-limit-tokens"] == "100000"
        assert answer.headers["x-ratelimit-reset-requests"].endswith("s")
        remaining.append(answer.headers["x-ratelimit-remaining-requests"])
    assert remaining == ["1", "0"]

    refused = await route.chat(REMOTE_PROMPT, headers=bearer(SLOW_KEY))
    assert (refused.status, (await refused.json())["error"]["code"]) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    async with AsyncOpenAI(base_url=f"{route.url}/v1", api_key=SLOW_KEY, max_retries=0) as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(model="hybridroute", messages=asked(REMOTE_PROMPT))
    assert provider.attempts == 2

    other = await route.chat(REMOTE_PROMPT, headers=bearer(BOT_KEY))
    await other.read()
    assert other.status == 200
    assert "x-ratelimit-limit-requests" not in other.headers


async def test_keys_rotate_without_a_restart(route: LiveRoute, clients: ClientsFile) -> None:
    before = {process.pid for process in route.processes("ServeReplica:router")}
    try:
        clients.write(BOT | {"keys": [BOT_KEY, NEW_KEY]}, CLINIC, SLOW)
        await ask_until(route, NEW_KEY, 200)
        await ask_until(route, BOT_KEY, 200)
        clients.write(BOT | {"keys": [NEW_KEY]}, CLINIC, SLOW)
        await ask_until(route, BOT_KEY, 401)
        await ask_until(route, NEW_KEY, 200)

        clients.write_text(f"- name: bot\n  keys: [{NEW_KEY}\n")

        async def problem_is_shown() -> bool:
            _, shown, _ = await route.command("status")
            assert NEW_KEY not in shown
            return "the clients file is not in force" in shown

        await route.until(problem_is_shown)
        await ask_until(route, NEW_KEY, 200)
    finally:
        clients.write(BOT, CLINIC, SLOW)
        await ask_until(route, BOT_KEY, 200)
    assert {process.pid for process in route.processes("ServeReplica:router")} == before


async def test_no_key_is_anywhere(route: LiveRoute, provider: ScriptedUpstream) -> None:
    shown = await break_things(route, provider)
    for arguments in (("status",), ("status", "--json"), ("costs",), ("costs", "--json")):
        _, out, err = await route.command(*arguments)
        shown |= {
            f"{' '.join(arguments)}, output": out.encode(),
            f"{' '.join(arguments)}, errors": err.encode(),
        }
    for path in ("/state", "/records?limit=1000", "/costs"):
        shown[path] = str(await route.keeper(path)).encode()
    metrics_token = {"authorization": f"Bearer {route.directory.metrics_token_file.read_text().strip()}"}
    async with route.session.get(f"{route.url}/keeper/metrics", headers=metrics_token) as answer:
        assert answer.status == 200
        shown["/metrics"] = await answer.read()

    allowed = {route.file.parent / "clients.yaml"}
    ray_dir = Path(route.run.ray_dir)
    files = [
        file
        for file in files_below(route.home, ray_dir)
        if file not in allowed and route.directory.secrets_dir not in file.parents
    ]
    assert any(file.parent == route.directory.state_dir for file in files)
    assert any(file.suffix == ".log" and ray_dir in file.parents for file in files)
    for file in files:
        with suppress(FileNotFoundError):  # journals and sockets come and go
            shown[str(file)] = file.read_bytes()
    found = {where: key[:16] for where, content in shown.items() for key in KEYS if key.encode() in content}
    assert found == {}


async def break_things(route: LiveRoute, provider: ScriptedUpstream) -> dict[str, bytes]:
    """Make everything fail that a key takes part in. Returns all that was answered, by what was asked."""
    quoted = {"error": {"message": f"Incorrect API key provided: {PROVIDER_KEY}", "code": "invalid_api_key"}}
    scripts = {
        "401 with the key": answer_json(quoted, status=401),
        "400 with the key": answer_json(quoted, status=400),
        "500 with the key": answer_json(quoted, status=500, headers={"x-request-id": PROVIDER_KEY}),
        "reset": reset_before_answer,
        "cut": stream_cut([role_event(), content_event("Hello")]),
        "no JSON": answer_json(None, raw=f"{{{PROVIDER_KEY}".encode()),
    }
    shown: dict[str, bytes] = {}
    for name, script in scripts.items():
        provider.default = script
        answer = await route.chat(REMOTE_PROMPT, headers=bearer(BOT_KEY), stream=name == "cut")
        shown[name] = str(answer.raw_headers).encode() + await answer.read()
        request_id = answer.headers["x-hybridroute-request-id"]
        shown[f"record of {name}"] = str(await route.record(request_id, attempts=1)).encode()
        _, out, err = await route.command("explain", request_id)
        shown[f"explain {name}"] = f"{out}{err}".encode()
    provider.default = answer_json(chat_answer())
    for key in (BOT_KEY, NEW_KEY, CLINIC_KEY, SLOW_KEY, WRONG_KEY):
        headers = bearer(key) | {"x-api-key": key, "x-request-timeout": key}
        answer = await route.chat(REMOTE_PROMPT, headers=headers)
        shown[f"a key in a header {key[:14]}"] = str(answer.raw_headers).encode() + await answer.read()
        answer = await route.chat(REMOTE_PROMPT, headers={"authorization": key})
        shown[f"no bearer {key[:14]}"] = str(answer.raw_headers).encode() + await answer.read()
    return shown


def files_below(*roots: Path) -> Iterator[Path]:
    """Yield the regular files of these directories, whoever owns them."""
    for root in roots:
        for directory, _, names in os.walk(root):
            yield from (file for name in names if (file := Path(directory, name)).is_file())
