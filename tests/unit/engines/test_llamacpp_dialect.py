"""What is asked of llama.cpp, what is kept of its events, and what its refusals mean."""

import json

import pytest

from hybridroute_api.vocabulary import Api, ErrorCode
from hybridroute_serve.engines.llamacpp_dialect import LlamaCppDialect
from hybridroute_serve.wire.errors import InvalidRequest

DIALECT = LlamaCppDialect()
ASKED = {"stream", "stream_options", "return_progress"}


def _prepare(api: Api = Api.CHAT_COMPLETIONS, **fields: object) -> dict[str, object]:
    """Return what the engine is asked beside the stream, which it is always asked for."""
    prepared = json.loads(DIALECT.prepare_body(json.dumps(fields).encode(), api))
    assert set(prepared) >= ASKED
    return {name: value for name, value in prepared.items() if name not in ASKED}


@pytest.mark.parametrize("more", [{}, {"stream": False}, {"stream": True, "stream_options": {"x": 1}}])
def test_every_request_is_streamed_with_usage_and_progress(more: dict[str, object]) -> None:
    body = json.dumps({"model": "m", "messages": [], "seed": 3, **more}).encode()
    assert json.loads(DIALECT.prepare_body(body, Api.CHAT_COMPLETIONS)) == {
        "model": "m",
        "messages": [],
        "seed": 3,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
    }


def test_fields_keep_their_bytes() -> None:
    body = b'{"messages":[{"role":"user","content":"caf\\u00e9"}],"temperature":0.10}'
    assert b'[{"role":"user","content":"caf\\u00e9"}],"temperature":0.10,' in DIALECT.prepare_body(
        body, Api.CHAT_COMPLETIONS
    )


OWN_FIELDS = {
    "n_predict": -1,
    "n_probs": 49152,
    "n_cmpl": 100,
    "id_slot": 3,
    "cache_prompt": False,
    "lora": [{"id": 0, "scale": 9}],
    "ignore_eos": True,
    "grammar": "root ::= [a]+",
    "json_schema": {},
    "n_keep": -1,
    "t_max_predict_ms": 1,
    "chat_template_kwargs": {"x": 1},
    "samplers": [],
    "timings_per_token": True,
    "return_tokens": True,
    "post_sampling_probs": True,
}


@pytest.mark.parametrize("api", list(Api))
def test_no_field_of_the_engines_own_passes(api: Api) -> None:
    assert _prepare(api, max_tokens=3, **OWN_FIELDS) == {"max_tokens": 3}


def test_openais_fields_pass_to_the_operation_that_has_them() -> None:
    sampling = {
        "model": "m",
        "temperature": 0.5,
        "top_p": 0.9,
        "n": 2,
        "stop": ["x"],
        "seed": 1,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "logit_bias": {"7": -100},
    }
    of_chat = {
        "messages": [],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "json_object"},
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }
    everything = {**sampling, **of_chat, "prompt": "x", "user": "u", "metadata": {}}
    assert _prepare(Api.CHAT_COMPLETIONS, **everything) == {**sampling, **of_chat}
    assert _prepare(Api.COMPLETIONS, **everything) == {**sampling, "prompt": "x"}


@pytest.mark.parametrize(
    ("caps", "cap"),
    [
        ({"max_tokens": 3}, 3),
        ({"max_completion_tokens": 4}, 4),
        ({"max_tokens": 3, "max_completion_tokens": 4}, 4),
        ({"max_tokens": 3, "max_completion_tokens": None}, 3),
        ({"max_tokens": 2**32 - 1}, 2**31 - 1),
    ],
)
def test_the_cap_is_the_one_that_the_router_reads(caps: dict[str, object], cap: int) -> None:
    assert _prepare(**caps) == {"max_tokens": cap}


def test_no_cap_stays_no_cap() -> None:
    assert _prepare(max_tokens=None) == {}


def test_completions_have_one_cap() -> None:
    assert _prepare(Api.COMPLETIONS, max_tokens=3, max_completion_tokens=4) == {"max_tokens": 3}


def test_known_samplers_pass() -> None:
    samplers = {"top_k": 40, "min_p": 0.05, "repeat_penalty": 1.1}
    assert _prepare(**samplers) == samplers
    assert _prepare(top_k=-1, min_p=None) == {"top_k": -1}


def test_what_llama_cpp_cannot_read_is_no_failure_of_its_own() -> None:
    body = {"error": {"code": 500, "message": "Failed to parse messages: Missing tool call type", "type": "x"}}
    refusal = LlamaCppDialect().explain_refusal(500, json.dumps(body).encode())
    assert refusal is not None
    assert (refusal.status, refusal.code) == (400, ErrorCode.NOT_SERVED_BY_SLM)
    body["error"]["message"] = "Compute error."
    assert LlamaCppDialect().explain_refusal(500, json.dumps(body).encode()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [("top_k", 1001), ("top_k", "40"), ("top_k", True), ("min_p", -0.1), ("repeat_penalty", 0)],
)
def test_a_sampler_out_of_bounds_is_named(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=name) as caught:
        _prepare(**{name: value})
    assert (caught.value.param, caught.value.code) == (name, ErrorCode.NOT_SERVED_BY_SLM)


def test_completions_get_ids_of_their_own() -> None:
    event = b'data: {"choices":[{"text":"a"}],"object":"text_completion","id":"chatcmpl-X"}\n\n'
    assert DIALECT.clean_events(event + b"data: [DONE]\n\n") == (
        b'data: {"choices":[{"text":"a"}],"object":"text_completion","id":"cmpl-X"}\n\ndata: [DONE]\n\n'
    )
    spoken = event.replace(b'"a"', b'"\\"id\\":\\"chatcmpl-\\""')
    assert b'\\"id\\":\\"chatcmpl-\\"' in DIALECT.clean_events(spoken)
    chat = b'data: {"choices":[],"object":"chat.completion.chunk","id":"chatcmpl-X"}\n\n'
    assert DIALECT.clean_events(chat) == chat


def test_progress_is_dropped_and_the_rest_kept_to_the_byte() -> None:
    progress = b'data: {"choices":[],"prompt_progress":{"total":9}}\n\n'
    first = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
    last = b"data: [DONE]\n\n"
    assert DIALECT.clean_events(progress + first + progress + last) == first + last
    assert DIALECT.clean_events(first) is first


def test_text_about_progress_is_text() -> None:
    spoken = b'data: {"choices":[{"delta":{"content":"a \\"prompt_progress\\" b"}}]}\n\n'
    assert DIALECT.clean_events(spoken) == spoken


def test_a_prompt_beyond_the_context_gets_openais_code() -> None:
    body = b'{"error":{"code":400,"message":"too long","type":"exceed_context_size_error","n_ctx":4}}'
    refused = DIALECT.explain_refusal(400, body)
    assert refused is not None
    assert (refused.status, refused.code) == (400, ErrorCode.CONTEXT_LENGTH_EXCEEDED)
    assert refused.message == "too long"


@pytest.mark.parametrize(
    "message",
    [
        "Unable to generate parser for this template. Automatic parser generation failed: JSON schema error at #:"
        " unsupported $ref http://x/y, only references into the same document are supported",
        "JSON schema conversion failed: Invalid pattern ^[$: unterminated character class",
        "Failed to initialize samplers: failed to parse grammar",
    ],
)
def test_a_schema_that_the_engine_cannot_read_may_be_served_elsewhere(message: str) -> None:
    body = json.dumps({"error": {"code": 400, "message": message, "type": "invalid_request_error"}}).encode()
    refused = DIALECT.explain_refusal(400, body)
    assert refused is not None
    assert (refused.status, refused.code, refused.message) == (400, ErrorCode.NOT_SERVED_BY_SLM, message)


def test_another_refusal_keeps_its_words() -> None:
    body = b'{"error":{"code":400,"message":"bad seed","type":"invalid_request_error"}}'
    refused = DIALECT.explain_refusal(400, body)
    assert refused is not None
    assert (refused.status, refused.code, refused.message) == (400, ErrorCode.INVALID_REQUEST, "bad seed")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"error":{"code":500,"message":"x","type":"server_error"}}'),
        (400, b"plain text"),
        (400, b'{"detail":"x"}'),
    ],
)
def test_what_is_not_the_clients_fault_is_not_explained(status: int, body: bytes) -> None:
    assert DIALECT.explain_refusal(status, body) is None
