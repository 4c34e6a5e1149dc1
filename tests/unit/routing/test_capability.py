"""What the SLM cannot serve, one fact at a time, and the edges of its context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybridroute_api.serving import SlmPolicy
from hybridroute_serve.routing.capability import ESTIMATE_MARGIN_PERCENT, MIN_ANSWER_TOKENS, incapability
from hybridroute_serve.routing.facts import RequestFacts

SLM = SlmPolicy(
    model_name="small",
    context_tokens=2048,
    tools=False,
    json_schema=False,
    machine_hour_nano_usd=0,
    first_byte_seconds=1,
    total_seconds=1,
)
PLAIN = RequestFacts(requested_model="hybridroute", text="hello", estimated_prompt_tokens=100)


def test_a_plain_request_is_capable() -> None:
    assert incapability(PLAIN, SLM) is None


@pytest.mark.parametrize(
    ("request_facts", "reason"),
    [
        (replace(PLAIN, images=True), "images are not read by the slm"),
        (replace(PLAIN, audio=True), "audio is not served by the slm"),
        (replace(PLAIN, files=True), "files are not read by the slm"),
        (replace(PLAIN, web_search=True), "web search is not served by the slm"),
        (replace(PLAIN, tools=True), "tools are not served by the slm"),
        (replace(PLAIN, json_schema=True), "a json schema is not served by the slm"),
        (replace(PLAIN, max_output_tokens=1924), "up to 125 prompt + 1924 answer tokens > 2048 of context"),
    ],
)
def test_each_incapability_has_its_reason(request_facts: RequestFacts, reason: str) -> None:
    assert incapability(request_facts, SLM) == reason


def test_an_engine_that_serves_tools_and_schemas_gets_them() -> None:
    able = SLM.model_copy(update={"tools": True, "json_schema": True})
    assert incapability(replace(PLAIN, tools=True, json_schema=True), able) is None


def test_prompt_and_answer_may_fill_the_context_exactly() -> None:
    assert incapability(replace(PLAIN, max_output_tokens=2048 - 125), SLM) is None


def test_a_request_without_a_cap_needs_room_for_an_answer() -> None:
    largest = (2048 - MIN_ANSWER_TOKENS) * 100 // (100 + ESTIMATE_MARGIN_PERCENT)
    assert incapability(replace(PLAIN, estimated_prompt_tokens=largest), SLM) is None
    assert incapability(replace(PLAIN, estimated_prompt_tokens=largest + 1), SLM) is not None


@given(st.integers(0, 5000), st.integers(0, 5000), st.none() | st.integers(1, 5000))
def test_a_longer_prompt_is_never_more_capable(prompt: int, more: int, cap: int | None) -> None:
    shorter = replace(PLAIN, estimated_prompt_tokens=prompt, max_output_tokens=cap)
    longer = replace(shorter, estimated_prompt_tokens=prompt + more)
    if incapability(shorter, SLM) is not None:
        assert incapability(longer, SLM) is not None
