"""The llm-proxy's door, and what an upstream gets to see."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hybridroute_api.vocabulary import Api, ErrorCode, Header, InternalHeader, Outcome
from hybridroute_serve.upstream.target import provider_target
from support.attempts import ProxyBench, running_proxy
from support.policies import an_upstream
from support.upstream import (
    DONE,
    ScriptedUpstream,
    answer_json,
    chat_answer,
    content_event,
    event,
    running_upstream,
    stream,
)

CHAT = {"model": "hybridroute", "messages": [{"role": "user", "content": "hello"}]}
CHAT_PATH = "/v1/chat/completions"


@pytest.mark.parametrize("path", [CHAT_PATH, "/v1/completions", "/v1/models", "/", "/docs"])
@pytest.mark.parametrize("token", [None, "", "internal-secreT", "Bearer internal-secret"])
async def test_nothing_is_served_without_the_internal_token(
    bench: ProxyBench, upstream: ScriptedUpstream, path: str, token: str | None
) -> None:
    headers = bench.headers()
    del headers[InternalHeader.TOKEN]
    if token is not None:
        headers[InternalHeader.TOKEN] = token

    answer = await bench.client.post(path, CHAT, headers)

    assert answer.status == 401
    assert answer.json()["error"]["code"] == ErrorCode.UNAUTHORIZED_INTERNAL
    assert upstream.attempts == 0
    assert bench.ledger.opened == []


async def test_health_needs_no_token(bench: ProxyBench) -> None:
    assert (await bench.client.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/embeddings", 404, ErrorCode.NOT_SUPPORTED),
        ("GET", CHAT_PATH, 405, ErrorCode.METHOD_NOT_ALLOWED),
    ],
)
async def test_what_is_not_served(
    bench: ProxyBench, method: str, path: str, status: int, code: ErrorCode
) -> None:
    answer = await bench.client.request(method, path, b"", bench.headers())

    assert answer.status == status
    assert answer.json()["error"]["code"] == code
    assert answer.headers[InternalHeader.FAILURE] == Outcome.CLIENT_ERROR


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, ErrorCode.INVALID_JSON),
        (b'{"model":"m","messages":[]}', 400, ErrorCode.INVALID_REQUEST),
        (b" " * ((1 << 20) + 1), 413, ErrorCode.BODY_TOO_LARGE),
    ],
)
async def test_bodies_that_are_not_sent_on(
    bench: ProxyBench, upstream: ScriptedUpstream, body: bytes, status: int, code: ErrorCode
) -> None:
    answer = await bench.client.request("POST", CHAT_PATH, body, bench.headers())

    assert answer.status == status
    assert answer.json()["error"]["code"] == code
    assert upstream.attempts == 0


async def test_before_the_first_policy(bench: ProxyBench) -> None:
    bench.policy = None

    answer = await bench.client.post(CHAT_PATH, CHAT, bench.headers())

    assert answer.status == 503
    assert answer.json()["error"]["code"] == ErrorCode.STARTING
    assert InternalHeader.FAILURE in answer.headers


async def test_a_request_without_an_id_would_have_no_record(bench: ProxyBench) -> None:
    headers = bench.headers()
    del headers[InternalHeader.REQUEST_ID]

    assert (await bench.client.post(CHAT_PATH, CHAT, headers)).status == 400


async def test_the_body_travels_on_with_its_edits_alone(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    body = b'{"temperature": 0.70, "model":"hybridroute","messages":[ {"role":"user", "content":"\\u00e9"} ]}'

    await bench.client.request("POST", CHAT_PATH, body, bench.headers())

    assert upstream.requests[0].path == "/v1/chat/completions"
    assert upstream.requests[0].body == (
        b'{"temperature":0.70,"model":"big","messages":[ {"role":"user", "content":"\\u00e9"} ],"max_tokens":256}'
    )


@pytest.mark.parametrize(
    ("base_url", "api", "cap"),
    [
        ("https://api.openai.com/v1", Api.CHAT_COMPLETIONS, "max_completion_tokens"),
        ("https://x.openai.azure.com/openai/v1", Api.CHAT_COMPLETIONS, "max_completion_tokens"),
        ("https://api.openai.com/v1", Api.COMPLETIONS, "max_tokens"),
        ("https://notopenai.com/v1", Api.CHAT_COMPLETIONS, "max_tokens"),
        ("http://127.0.0.1:8000/v1", Api.CHAT_COMPLETIONS, "max_tokens"),
    ],
)
def test_openais_own_servers_get_the_cap_they_know(base_url: str, api: Api, cap: str) -> None:
    assert provider_target(an_upstream(base_url=base_url), api).output_cap == (cap, 256)


async def test_what_a_provider_sees_of_the_headers(
    bench: ProxyBench, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    credential = tmp_path / "key"
    credential.write_text("sk-provider\n")
    bench.use(
        [
            an_upstream(
                base_url=upstream.base_url,
                credential_file=str(credential),
                headers={"X-Team": "support", "openai-organization": "org"},
            )
        ]
    )
    headers = bench.headers(
        authorization="Bearer client", cookie="a=b", traceparent="00-1-2-01", te="trailers"
    )

    await bench.client.post(CHAT_PATH, CHAT, headers)

    seen = upstream.requests[0].headers
    assert seen["authorization"] == "Bearer sk-provider"
    assert seen["x-team"] == "support"
    assert seen["openai-organization"] == "org"
    assert seen["traceparent"] == "00-1-2-01"
    assert not {name for name in seen if name.startswith("x-hybridroute")} | seen.keys() & {"cookie", "te"}


async def test_a_changed_credential_is_read_again(
    bench: ProxyBench, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    credential = tmp_path / "key"
    credential.write_text("first")
    bench.use([an_upstream(base_url=upstream.base_url, credential_file=str(credential))])
    await bench.client.post(CHAT_PATH, CHAT, bench.headers())
    replacement = tmp_path / "new"
    replacement.write_text("other")
    replacement.rename(credential)

    await bench.client.post(CHAT_PATH, CHAT, bench.headers(**{InternalHeader.REQUEST_ID: "hr-2"}))

    assert [one.headers["authorization"] for one in upstream.requests] == ["Bearer first", "Bearer other"]


@pytest.mark.parametrize("content", [None, b"", b" \n", b"sk-1\nsk-2", b"\xff\xfe", "sk-é".encode()])
async def test_a_credential_that_cannot_be_used_is_a_failure_that_does_not_show_it(
    bench: ProxyBench,
    upstream: ScriptedUpstream,
    tmp_path: Path,
    content: bytes | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", logger="hybridroute_serve")
    credential = tmp_path / "key"
    if content is not None:
        credential.write_bytes(content)
    bench.use([an_upstream(base_url=upstream.base_url, credential_file=str(credential))])

    answer = await bench.client.post(CHAT_PATH, CHAT, bench.headers())

    assert answer.status == 503
    assert upstream.attempts == 0
    assert bench.ledger.report.outcome is Outcome.UPSTREAM_ERROR
    assert "credential file" in caplog.text
    assert "sk-" not in caplog.text + answer.body.decode()


async def test_completions(bench: ProxyBench, upstream: ScriptedUpstream) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    upstream.scripts.append(
        answer_json({"choices": [{"text": "hi", "finish_reason": "stop"}], "usage": usage})
    )
    upstream.scripts.append(stream([event({"choices": [{"text": "hi", "finish_reason": None}]}), DONE]))
    body: dict[str, Any] = {"model": "m", "prompt": "say hi"}

    unary = await bench.client.post("/v1/completions", body, bench.headers())
    streamed = await bench.client.post(
        "/v1/completions", body | {"stream": True}, bench.headers(**{InternalHeader.REQUEST_ID: "hr-2"})
    )

    assert unary.json()["choices"][0]["text"] == "hi"
    assert streamed.body.endswith(DONE)
    assert [one.path for one in upstream.requests] == ["/v1/completions"] * 2
    assert upstream.requests[0].json()["max_tokens"] == 256
    assert [report.outcome for report in bench.ledger.reports] == [Outcome.OK] * 2


async def test_the_application_may_be_mounted_below_a_prefix(upstream: ScriptedUpstream) -> None:
    async with running_proxy(root_path="/llm") as bench:
        bench.use([an_upstream(base_url=upstream.base_url)])

        answer = await bench.client.post(CHAT_PATH, CHAT, bench.headers())

    assert answer.status == 200


async def test_a_policy_change_reaches_the_next_request(
    bench: ProxyBench, upstream: ScriptedUpstream
) -> None:
    await bench.client.post(CHAT_PATH, CHAT, bench.headers())
    bench.use([an_upstream("renamed", upstream.base_url, model="bigger")])

    answer = await bench.client.post(CHAT_PATH, CHAT, bench.headers(**{InternalHeader.REQUEST_ID: "hr-2"}))

    assert answer.headers[InternalHeader.UPSTREAM] == "renamed"
    assert upstream.requests[1].json()["model"] == "bigger"


async def test_no_prompt_and_no_answer_in_the_log(
    bench: ProxyBench, upstream: ScriptedUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", logger="hybridroute_serve")
    bench.use([an_upstream(base_url=upstream.base_url)], max_attempts=1)
    upstream.scripts.append(answer_json(None, raw=b"secret-answer"))
    upstream.scripts.append(answer_json({"error": {"message": "secret-answer"}}, status=500))
    upstream.scripts.append(stream([content_event("secret-answer")]))
    body = {"model": "m", "messages": [{"role": "user", "content": "secret-prompt"}]}

    for number, stream_asked in enumerate((False, False, True)):
        headers = bench.headers(**{InternalHeader.REQUEST_ID: f"hr-{number}"})
        await bench.client.post(CHAT_PATH, body | {"stream": stream_asked}, headers)

    assert caplog.text.count("attempt failed") == 3
    assert "secret" not in caplog.text


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for loopback, and its key, in one file."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl could not make a certificate; install openssl 1.1.1 or later")
    certificate.write_bytes(certificate.read_bytes() + key.read_bytes())
    return certificate


async def test_an_upstream_with_a_certificate_of_its_own_authority(
    bench: ProxyBench, certificate: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    async with running_upstream(answer_json(chat_answer()), tls=context) as upstream:
        bench.use([an_upstream(base_url=upstream.base_url)])
        distrusted = await bench.client.post(CHAT_PATH, CHAT, bench.headers())
        bench.use([an_upstream(base_url=upstream.base_url, ca_file=str(certificate))])
        trusted = [
            await bench.client.post(CHAT_PATH, CHAT, bench.headers(**{InternalHeader.REQUEST_ID: f"hr-{n}"}))
            for n in (2, 3)
        ]
        bench.use([an_upstream(base_url=upstream.base_url, ca_file=str(certificate.with_name("absent.pem")))])
        unreadable = await bench.client.post(
            CHAT_PATH, CHAT, bench.headers(**{InternalHeader.REQUEST_ID: "hr-4"})
        )

    assert distrusted.status == unreadable.status == 503
    assert [answer.status for answer in trusted] == [200, 200]
    assert upstream.attempts == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_key_that_a_provider_quotes_in_an_error_is_hidden(
    bench: ProxyBench, upstream: ScriptedUpstream, tmp_path: Path, streamed: bool
) -> None:
    credential = tmp_path / "key"
    credential.write_text("sk-provider-0123456789")
    bench.use([an_upstream(base_url=upstream.base_url, credential_file=str(credential))])
    quoted = {"error": {"message": "bad key sk-provider-0123456789", "type": "x", "code": "y"}}
    script = stream([content_event("Hello"), event(quoted)]) if streamed else answer_json(quoted, status=422)
    upstream.scripts.append(script)

    answer = await bench.ask(stream=streamed)

    assert b"bad key ***" in answer.body
    assert b"sk-provider" not in answer.body


async def test_a_key_that_a_provider_quotes_in_a_header_of_an_error_is_hidden(
    bench: ProxyBench, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    credential = tmp_path / "key"
    credential.write_text("sk-provider-0123456789")
    bench.use([an_upstream(base_url=upstream.base_url, credential_file=str(credential))])
    upstream.scripts.append(
        answer_json({"error": {}}, status=422, headers={"x-request-id": "for sk-provider-0123456789"})
    )

    answer = await bench.ask()

    assert answer.headers[Header.UPSTREAM_REQUEST_ID] == "for ***"
