"""What the README promises: two installs, one apply, one wait, and any OpenAI client gets answers of both paths."""

import re
from collections.abc import Iterator

import pytest
from openai import APIStatusError, OpenAI

from support.kind_tier import Cluster, Provider

LOCAL, REMOTE = "I want to lock my current account right away", "Write a sonnet about the sea."
PROMPTS = [(LOCAL, "slm"), (REMOTE, "llm")]


@pytest.fixture(scope="module")
def client(route: Cluster, provider: Provider) -> Iterator[OpenAI]:
    with (
        route.forward("service/support-gateway-serve-svc", 8000) as url,
        OpenAI(base_url=f"{url}/v1", api_key="unused", timeout=120, max_retries=0) as made,
    ):

        def reaches_the_provider() -> bool:
            try:
                made.chat.completions.create(
                    model="llm", messages=[{"role": "user", "content": REMOTE}], max_tokens=8
                )
            except APIStatusError:
                return False
            return provider.attempts() > 0

        # The upstream's address was changed a moment ago.
        route.until("the new address is in force", reaches_the_provider, every=1)
        yield made


@pytest.mark.parametrize(("prompt", "path"), PROMPTS)
def test_both_paths_answer(client: OpenAI, provider: Provider, prompt: str, path: str) -> None:
    before = provider.attempts()
    raw = client.chat.completions.with_raw_response.create(
        model="hybridroute", messages=[{"role": "user", "content": prompt}], max_tokens=8
    )
    assert raw.headers["x-hybridroute-path"] == path
    assert raw.headers["x-hybridroute-gate"] == "confidence"
    answer = raw.parse()
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert provider.attempts() - before == (path == "llm")


@pytest.mark.parametrize(("prompt", "path"), PROMPTS)
def test_both_paths_stream(client: OpenAI, prompt: str, path: str) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="support", messages=[{"role": "user", "content": prompt}], max_tokens=8, stream=True
    )
    assert raw.headers["x-hybridroute-path"] == path
    chunks = list(raw.parse())
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in chunks) > 1


def test_the_providers_key_comes_from_the_secret(client: OpenAI, provider: Provider) -> None:
    client.chat.completions.create(model="llm", messages=[{"role": "user", "content": REMOTE}], max_tokens=8)
    assert set(provider.seen()) == {"Bearer sk-first"}


def test_kubectl_get_reads_well(route: Cluster) -> None:
    header, row = route.kubectl("get", "hybridroutes").splitlines()
    assert re.split(r" {2,}", header.strip()) == [
        "NAME",
        "READY",
        "URL",
        "SLM %",
        "SPENT",
        "LIMIT",
        "SAVED",
        "AGE",
    ]
    cells = row.split()
    url = "http://support-gateway-serve-svc.default.svc:8000/v1"
    assert cells[:3] == ["support", "True", url]
    conditions = route.conditions()
    assert {kind: item["status"] for kind, item in conditions.items()} == {
        "Ready": "True",
        "Accepted": "True",
        "RouterReady": "True",
        "SLMReady": "True",
        "LLMReady": "True",
        "BudgetAvailable": "True",
        "GuaranteeValid": "Unknown",
        "Degraded": "False",
    }


def test_helm_test_gets_a_completion(route: Cluster) -> None:
    # Its pod goes when it has succeeded, and its log with it.
    told = route.run("helm", "test", "hybridroute", "--namespace", "hybridroute-system", "--timeout", "10m")
    assert "Succeeded" in told


def test_the_operators_account_can_do_what_the_chart_says_and_no_more(route: Cluster) -> None:
    account = "--as=system:serviceaccount:hybridroute-system:hybridroute-operator"
    allowed = route.kubectl("auth", "can-i", "create", "rayservices.ray.io", account)
    assert allowed.strip() == "yes"
    for verb, resource in (
        ("list", "secrets"),
        ("delete", "pods"),
        ("patch", "hybridroutes.hybridroute.dev"),
    ):
        refused = ["auth", "can-i", verb, resource, account]
        told = route.run("bash", "-c", f"{route.kind.kubectl_path} {' '.join(refused)} || true")
        assert told.strip() == "no", (verb, resource)


def test_operator_and_route_run_where_nothing_but_the_restricted_level_is_let_in(route: Cluster) -> None:
    for namespace in ("default", "hybridroute-system"):
        labels = route.json("get", "namespace", namespace)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert route.json("get", "pods", "--namespace", namespace)["items"]
