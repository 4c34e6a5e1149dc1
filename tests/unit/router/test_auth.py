"""Keys, limits and local-only clients, over real HTTP to scripted paths."""

import itertools
import json
import logging
import re

import msgspec
import pytest
from aiohttp import web

from hybridroute_api.serving import AuthPolicy
from hybridroute_api.vocabulary import Gate, InternalHeader, Mode, Outcome, PathName
from hybridroute_serve.routing.facts import PathHealth
from support.client_files import ClientsFile
from support.path_apps import sse
from support.policies import a_policy
from support.router_bench import CARD, SONNET, Bench, failing, streaming

KEY = "sk-bot-0123456789abcdef"
NEXT_KEY = "sk-bot-fedcba9876543210"
CLINIC_KEY = "sk-clinic-0123456789abc"
BOT = {"name": "bot", "keys": [KEY]}
CLINIC = {"name": "clinic", "keys": [CLINIC_KEY], "localOnly": True}
SLM, LLM = PathName.SLM, PathName.LLM


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def file(bench: Bench, tmp_path) -> ClientsFile:
    made = ClientsFile(tmp_path / "clients.yaml")
    made.write(BOT, CLINIC)
    await bench.use(a_policy(auth=AuthPolicy(keys_file=str(made.path))))
    return made


@pytest.mark.parametrize(
    ("presented", "code", "challenge"),
    [
        (None, "api_key_missing", "Bearer"),
        ("", "api_key_missing", "Bearer"),
        ("Bearer", "api_key_missing", "Bearer"),
        ("Bearer   ", "api_key_missing", "Bearer"),
        (KEY, "api_key_missing", "Bearer"),
        (f"Basic {KEY}", "api_key_missing", "Bearer"),
        ("Bearer sk-unknown-0123456789", "invalid_api_key", 'Bearer error="invalid_token"'),
        (f"Bearer {KEY}x", "invalid_api_key", 'Bearer error="invalid_token"'),
        (f"Bearer {KEY[:-1]}", "invalid_api_key", 'Bearer error="invalid_token"'),
        (f"Bearer {KEY} {KEY}", "invalid_api_key", 'Bearer error="invalid_token"'),
        (f"Bearer {KEY.upper()}", "invalid_api_key", 'Bearer error="invalid_token"'),
    ],
)
async def test_without_a_good_key_nothing_is_served(bench, file, presented, code, challenge):
    answer = await bench.chat(CARD, {} if presented is None else {"authorization": presented})

    assert answer.status == 401
    assert answer.json()["error"]["code"] == code
    assert answer.headers["www-authenticate"] == challenge
    assert not bench.paths.seen
    record = bench.ledger.record
    assert (record.status, record.outcome, record.client) == (401, Outcome.REJECTED, None)
    assert (record.error_code, record.path, record.gate) == (code, None, None)


async def test_the_key_comes_before_the_body(bench, file):
    answer = await bench.client.request("POST", "/v1/chat/completions", b"{", {"content-length": "999999999"})

    assert answer.status == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize(("text", "path"), [(CARD, SLM), (SONNET, LLM)])
async def test_the_client_is_named_to_the_path_and_in_the_record_and_its_key_goes_nowhere(
    bench, file, scheme, text, path
):
    forged = {
        "authorization": f"{scheme} {KEY}",
        InternalHeader.CLIENT: "clinic",
        InternalHeader.FAILED_OVER: "1",
    }
    answer = await bench.chat(text, forged)

    assert answer.status == 200
    ((asked, headers, _),) = bench.paths.seen
    assert asked is path
    assert headers[InternalHeader.CLIENT] == "bot"
    assert InternalHeader.FAILED_OVER not in headers
    assert "authorization" not in headers
    assert bench.ledger.record.client == "bot"


async def test_an_open_route_asks_for_no_key_and_names_no_client(bench):
    answer = await bench.chat(CARD, bearer("anything") | {InternalHeader.CLIENT: "forged"})

    assert answer.status == 200
    assert InternalHeader.CLIENT not in bench.paths.seen[0][1]
    assert bench.ledger.record.client is None
    assert not [name for name in answer.headers if name.startswith("x-ratelimit")]


async def test_a_key_is_rotated_without_a_new_policy(bench, file):
    file.write({"name": "bot", "keys": [KEY, NEXT_KEY]})
    await bench.holder.refresh_clients()
    both = [(await bench.chat(CARD, bearer(key))).status for key in (KEY, NEXT_KEY)]
    file.write({"name": "bot", "keys": [NEXT_KEY]})
    await bench.holder.refresh_clients()
    after = [(await bench.chat(CARD, bearer(key))).status for key in (KEY, NEXT_KEY)]

    assert (both, after) == ([200, 200], [401, 200])


async def test_a_broken_file_changes_nothing_and_says_so(bench, file):
    file.write_text("- name: [")
    await bench.holder.refresh_clients()

    assert (await bench.chat(CARD, bearer(KEY))).status == 200
    assert "is not valid YAML" in bench.holder.clients_problem

    file.write(BOT)
    await bench.holder.refresh_clients()
    assert bench.holder.clients_problem is None


async def test_clients_that_could_never_be_read_let_nobody_in(bench, tmp_path):
    await bench.use(a_policy(auth=AuthPolicy(keys_file=str(tmp_path / "missing.yaml"))))

    answer = await bench.chat(CARD, bearer(KEY))

    assert (answer.status, answer.json()["error"]["code"]) == (503, "starting")
    assert answer.headers["retry-after"] == "1"
    assert not bench.paths.seen
    assert bench.ledger.record.outcome is Outcome.UPSTREAM_ERROR


async def test_auth_that_is_taken_out_of_the_policy_opens_the_route(bench, file):
    await bench.use(a_policy())

    assert (await bench.chat(CARD)).status == 200
    assert bench.holder.clients_problem is None


async def test_more_requests_than_a_minute_allows_are_told_when_to_come_back(bench, file):
    file.write(BOT | {"requestsPerMinute": 2}, CLINIC)
    await bench.holder.refresh_clients()

    answers = [await bench.chat(CARD, bearer(KEY)) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.headers["retry-after"] == "30"
    assert refused.headers["x-ratelimit-limit-requests"] == "2"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "1"
    assert len(bench.paths.seen) == 2
    record = bench.ledger.closed[-1]
    assert (record.outcome, record.client) == (Outcome.REJECTED, "bot")
    assert (await bench.chat(CARD, bearer(CLINIC_KEY))).status == 200

    bench.skipped_seconds = 30.0
    assert (await bench.chat(CARD, bearer(KEY))).status == 200


async def test_router_replicas_share_a_limit_out(bench, file):
    file.write(BOT | {"requestsPerMinute": 8})
    await bench.holder.refresh_clients()
    bench.replicas = 4

    statuses = [(await bench.chat(CARD, bearer(KEY))).status for _ in range(3)]

    assert statuses == [200, 200, 429]


async def test_tokens_are_counted_before_they_are_used(bench, file):
    file.write(BOT | {"tokensPerMinute": 500})
    await bench.holder.refresh_clients()

    first = await bench.chat(CARD, bearer(KEY), max_tokens=400)
    second = await bench.chat(CARD, bearer(KEY), max_tokens=400)
    too_large = await bench.chat(CARD, bearer(KEY), max_tokens=400, n=2)

    assert [first.status, second.status, too_large.status] == [200, 429, 429]
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
    assert int(second.headers["retry-after"]) > 0
    assert too_large.headers["x-should-retry"] == "false"
    assert "retry-after" not in too_large.headers
    assert len(bench.paths.seen) == 1


@pytest.mark.parametrize("limited", [True, False])
async def test_a_clients_own_limits_take_the_place_of_the_providers(bench, file, limited):
    file.write(BOT | ({"requestsPerMinute": 60} if limited else {}))
    await bench.holder.refresh_clients()

    async def provider(_: web.Request) -> web.StreamResponse:
        return web.json_response({"choices": []}, headers={"x-ratelimit-limit-requests": "9999"})

    bench.paths.handlers[LLM] = provider
    answer = await bench.chat(SONNET, bearer(KEY))

    assert answer.headers["x-ratelimit-limit-requests"] == ("60" if limited else "9999")


IMAGE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"model": "support"},
        {"model": "slm"},
        {"tools": TOOLS},
        {"messages": [{"role": "user", "content": IMAGE}]},
        {"messages": [{"role": "user", "content": "word " * 20_000}]},
    ],
    ids=["plain", "route", "slm", "tools", "image", "long"],
)
async def test_what_a_local_only_key_sends_stays_on_the_slm(bench, file, fields, stream):
    bench.paths.handlers[SLM] = streaming([sse("hi"), b"data: [DONE]\n\n"])

    answer = await bench.chat(SONNET, bearer(CLINIC_KEY), stream=stream, **fields)

    assert answer.headers["x-hybridroute-path"] == "slm"
    assert answer.headers["x-hybridroute-gate"] == "forced"
    assert bench.asked == [SLM]
    assert bench.ledger.record.reason == "local-only key"


@pytest.mark.parametrize(
    ("status", "outcome", "code"),
    [
        (503, Outcome.UPSTREAM_ERROR, "path_unavailable"),
        (429, Outcome.THROTTLED, "slm_overloaded"),
        (504, Outcome.TIMEOUT, "timeout"),
        (400, Outcome.CLIENT_ERROR, "context_length_exceeded"),
        (400, Outcome.CLIENT_ERROR, "not_served_by_slm"),
    ],
)
async def test_a_failing_slm_is_no_reason_for_a_local_only_key_to_leave(bench, file, status, outcome, code):
    bench.paths.handlers[SLM] = failing(status, outcome, code)

    answers = [await bench.chat(CARD, bearer(CLINIC_KEY)) for _ in range(8)]

    assert {(answer.status, answer.json()["error"]["code"]) for answer in answers} == {(status, code)}
    assert set(bench.asked) == {SLM}


@pytest.mark.parametrize("mode", [Mode.HYBRID, Mode.LLM_ONLY])
async def test_a_local_only_key_is_refused_where_only_the_llm_could_serve(bench, file, mode):
    await bench.use(a_policy(mode=mode, auth=AuthPolicy(keys_file=str(file.path))))
    bench.health = PathHealth(slm_up=False, slm_detail="no ready replica")

    down = await bench.chat(CARD, bearer(CLINIC_KEY))
    asked_for = await bench.chat(CARD, bearer(CLINIC_KEY), model="llm")
    others = await bench.chat(SONNET, bearer(KEY))

    assert (down.status, down.json()["error"]["code"]) == (503, "path_unavailable")
    assert (asked_for.status, asked_for.json()["error"]["code"]) == (403, "local_only_key")
    assert others.status == 200
    assert bench.asked == [LLM]
    assert [record.outcome for record in bench.ledger.closed[:2]] == [
        Outcome.UPSTREAM_ERROR,
        Outcome.REJECTED,
    ]
    assert bench.ledger.closed[1].gate is Gate.FORCED


async def test_no_key_is_in_logs_records_answers_or_requests_to_the_paths(bench, file, caplog):
    """Good and bad keys, in every way in which a request ends here."""
    caplog.set_level(logging.DEBUG)
    answers = []
    keys = (KEY, CLINIC_KEY, NEXT_KEY, "sk-unknown-0123456789")
    handlers = (
        bench.paths.handlers[SLM],
        failing(503, Outcome.UPSTREAM_ERROR),
        failing(429, Outcome.UNAFFORDABLE, "budget_exhausted"),
        streaming([sse("a")], then="cut"),
    )
    for slm, llm, key in itertools.product(handlers, handlers, keys):
        bench.paths.handlers.update({SLM: slm, LLM: llm})
        for text, model in ((CARD, "hybridroute"), (SONNET, "llm"), (SONNET, "gpt-9")):
            answers.append(await bench.chat(text, bearer(key), model=model, stream=True))
    for text in (f"- name: bot\n  keys: [{NEXT_KEY}", f"- {{name: bot, {NEXT_KEY}: 1}}"):
        file.write_text(text)
        await bench.holder.refresh_clients()
    answers.append(await bench.client.request("POST", "/v1/chat/completions", b"{", bearer(KEY)))

    assert {answer.status for answer in answers} >= {200, 400, 401, 403, 404, 429, 503}
    everything = [
        caplog.text,
        repr(bench.holder.active),
        str(bench.holder.clients_problem),
        *(msgspec.json.encode(record).decode() for record in bench.ledger.closed),
        *(msgspec.json.encode(opened).decode() for opened in bench.ledger.opened),
        *(answer.body.decode() + json.dumps(answer.headers) for answer in answers),
        *(json.dumps(headers) + body.decode() for _, headers, body in bench.paths.seen),
    ]
    assert not [text for text in everything if re.search("sk-|0123456789|9876543210", text)]
