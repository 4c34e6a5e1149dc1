"""A calibrated policy through the whole gateway: router, llm-proxy and keeper run, provider and SLM are scripted."""

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybridroute_api.records import Batch, ReplicaHeartbeat
from hybridroute_api.serving import LivePolicy, LlmPolicy
from hybridroute_api.vocabulary import InternalHeader
from hybridroute_serve.journal import BATCH_PATH
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from support.artifacts import artifact_policy, certified, recertified, with_charts
from support.eventually import eventually
from support.gateway_bench import Answered, GatewayBench, running_gateway
from support.keepers import TOKEN, write_live
from support.lab_rows import WordEmbedder, labelled_texts, strange_texts
from support.one_thread import one_thread
from support.policies import a_policy, a_retry_policy, an_upstream
from support.upstream import ScriptedUpstream, answer_json, chat_answer, running_upstream

__all__ = ["one_thread"]

SECONDS = 30.0
"""The machine may be busy; nothing here takes three of them alone."""


class Route:
    """One gateway by an artifact, and ways to change it."""

    def __init__(self, directory: Path, upstream: ScriptedUpstream, data: bytes) -> None:
        self.directory = directory
        self.file = directory / "support.artifact"
        self.file.write_bytes(data)
        self._upstream = upstream
        self.gateway: GatewayBench

    def policy(self, *, slm: str = "smollm2-135m", llm: str = "big", **artifact: Any) -> LivePolicy:
        base = a_policy()
        routing = base.routing.model_copy(
            update={
                "local_examples": (),
                "remote_examples": (),
                "artifact": artifact_policy(file=str(self.file), **artifact),
            }
        )
        upstream = an_upstream(base_url=self._upstream.base_url, model=llm)
        return a_policy(
            routing=routing,
            slm=base.slm.model_copy(update={"model_name": slm}),
            llm=LlmPolicy(upstreams=(upstream,), retries=a_retry_policy()),
        )

    def edit(self, **changes: Any) -> None:
        write_live(self.directory, self.policy(**changes))

    async def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((await self.gateway.keeper("/state")).text)
        return document

    async def is_guaranteed(self, status: str, reason: str) -> None:
        async def said() -> bool:
            guarantee = (await self.state())["guarantee"]
            return (guarantee["status"], guarantee["reason"]) == (status, reason)

        await eventually(said, SECONDS)

    async def goes(self, prompt: str, path: str, gate: str) -> Answered:
        """Ask until the prompt goes that way; return the answer that did."""
        answers: list[Answered] = []

        async def went() -> bool:
            answer = await self.gateway.chat(prompt)
            answers.append(answer)
            said = answer.headers.get("x-hybridroute-path"), answer.headers.get("x-hybridroute-gate")
            return answer.status == 200 and said == (path, gate)

        await eventually(went, SECONDS)
        return answers[-1]

    async def record(self, answer: Answered) -> dict[str, Any]:
        await self.gateway.explain(answer)
        found = await self.gateway.keeper(f"/records/{answer.headers['x-hybridroute-request-id']}")
        record: dict[str, Any] = json.loads(found.text)["record"]
        return record

    async def tell_keeper(self, batch: Batch) -> None:
        headers = {InternalHeader.TOKEN.value: TOKEN}
        url = self.gateway.keeper_url + BATCH_PATH
        async with self.gateway.session.post(url, data=msgspec.json.encode(batch), headers=headers) as answer:
            assert answer.status == 200, await answer.text()

    async def metrics(self) -> str:
        return (await self.gateway.keeper("/metrics")).text


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    async with running_upstream(answer_json(chat_answer())) as made:
        yield made


async def serving(route: Route) -> AsyncIterator[Route]:
    async with running_gateway(WordEmbedder(), route.directory, route.policy()) as route.gateway:
        yield route


@pytest.fixture
async def route(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Route]:
    async for made in serving(Route(tmp_path, upstream, certified())):
        yield made


@pytest.fixture
async def drifting(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Route]:
    async for made in serving(Route(tmp_path, upstream, with_charts())):
        yield made


def find_prompt(data: bytes, low: float, high: float) -> tuple[str, float]:
    """Return a prompt in scope whose confidence is between two, and that confidence."""
    scorer = ArtifactScorer.from_bytes(data, WordEmbedder())
    for text in labelled_texts(400, seed=3).texts:
        scores = scorer.score_text(text)
        assert scores.confidence is not None
        if low < scores.confidence < high and scores.scope > 0.3:
            return text, scores.confidence
    raise AssertionError("no such prompt")


async def test_the_artifact_decides_and_editing_the_risk_moves_the_threshold(route: Route) -> None:
    prompt, confidence = find_prompt(certified(), 0.66, 0.74)
    digest = decode_artifact(certified()).digest
    answer = await route.goes(prompt, "slm", "confidence")
    assert abs(float(answer.headers["x-hybridroute-confidence"]) - confidence) <= 1e-6
    await route.is_guaranteed("True", "Certified")
    covered = await route.goes(prompt, "slm", "confidence")
    record = await route.record(covered)
    assert (record["artifact"], record["guarantee_covered"]) == (digest, True)
    assert (record["cluster"] is None, record["topic"] is None) == (False, False)
    assert "covered by the promise" in await route.gateway.explain(covered)
    state = await route.state()
    assert state["policy"]["digest"] == digest
    assert state["policy"]["threshold"] == record["threshold"]

    route.edit(max_risk=0.05)
    escalated = await route.goes(prompt, "llm", "confidence")
    assert abs(float(escalated.headers["x-hybridroute-confidence"]) - confidence) <= 1e-6
    assert (await route.record(escalated))["threshold"] > confidence
    route.edit(max_risk=0.001)
    await route.is_guaranteed("True", "NothingKept")
    metrics = await route.metrics()
    assert 'hybridroute_guarantee_covered_total{route="support"}' in metrics
    report = json.loads((await route.gateway.keeper("/report")).text)
    assert report["artifact"] == digest
    assert report["requests"] >= 3
    kept = {point["max_risk"]: point["kept_share"] for point in report["points"]}
    assert kept[0.1] == 1.0  # the same prompt each time
    assert kept[0.05] == 0.0
    assert 0.0 < report["today"]["kept_share"] < 1.0
    assert f'hybridroute_policy_info{{digest="{digest}",route="support"}} 1.0' in metrics
    assert 'hybridroute_policy_valid{route="support"} 1.0' in metrics


async def test_another_model_voids_the_promise_and_what_is_kept_is_counted_apart(route: Route) -> None:
    prompt, _ = find_prompt(certified(), 0.9, 1.0)
    await route.goes(prompt, "slm", "confidence")
    for change in ({"slm": "another"}, {"llm": "bigger"}):
        route.edit()
        await route.is_guaranteed("True", "Certified")
        route.edit(**change)
        await route.is_guaranteed("False", "ModelsChanged")

        async def outside() -> bool:
            record = await route.record(await route.goes(prompt, "slm", "confidence"))
            return record["outside_promise"] == "not_promised" and not record["guarantee_covered"]

        await eventually(outside, SECONDS)
    [(name, made)] = (("llm", "big"),)
    state = await route.state()
    assert f"{name} was {made} when the promise was certified and is bigger" in state["guarantee"]["message"]
    assert 'served_outside_promise_total{cause="not_promised",route="support"}' in await route.metrics()


async def test_replaced_weights_void_the_promise_although_the_name_is_the_same(route: Route) -> None:
    made, other = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    prompt, _ = find_prompt(certified(), 0.9, 1.0)
    route.file.write_bytes(recertified(certified(), slm_weights=made))
    for weights, status, reason in (
        (made, "True", "Certified"),
        (other, "False", "ModelsChanged"),
        (made, "True", "Certified"),
    ):
        now = time.time()
        beat = ReplicaHeartbeat("slm-1", "slm", now - 60.0, now, facts={"model_digest": weights})
        await route.tell_keeper(Batch(heartbeats=[beat], replica="slm-1"))
        await route.is_guaranteed(status, reason)

        async def recorded(expected: bool = status == "True") -> bool:
            answer = await route.goes(prompt, "slm", "confidence")
            covered: bool = (await route.record(answer))["guarantee_covered"]
            return covered is expected

        await eventually(recorded, SECONDS)


async def test_shapes_without_labels_and_forced_requests_are_counted_apart(route: Route) -> None:
    prompt, _ = find_prompt(certified(), 0.9, 1.0)
    await route.goes(prompt, "slm", "confidence")
    turns = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": prompt},
    ]
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}]
    asked: list[tuple[dict[str, Any], str]] = [
        ({"messages": turns}, "multi_turn"),
        ({"messages": system}, "system_prompt"),
        ({"n": 2}, "shape"),
        ({"model": "slm"}, "forced"),
    ]
    for fields, cause in asked:
        record = await route.record(await route.gateway.chat(prompt, **fields))
        assert (record["path"], record["outside_promise"]) == ("slm", cause)
        assert not record["guarantee_covered"]


async def test_drifted_traffic_voids_the_promise_acts_and_a_new_certificate_restores_it(
    drifting: Route,
) -> None:
    prompt, _ = find_prompt(with_charts(), 0.66, 0.74)
    await drifting.goes(prompt, "slm", "confidence")
    for text in strange_texts(40, seed=5).texts:
        await drifting.gateway.chat(text)
    escalated = await drifting.goes(prompt, "llm", "drift")
    assert "tightened by the drift alarm: scope" in await drifting.gateway.explain(escalated)
    await drifting.is_guaranteed("False", "Drifted")
    state = await drifting.state()
    assert state["drift"]["alarm"]["charts"] == ["scope"]
    assert 'hybridroute_drift_alarm{route="support"} 1.0' in await drifting.metrics()
    sure, _ = find_prompt(with_charts(), 0.85, 1.0)
    kept = await drifting.record(await drifting.goes(sure, "slm", "confidence"))
    assert kept["outside_promise"] == "not_promised"

    drifting.file.write_bytes(recertified(with_charts()))
    await drifting.is_guaranteed("True", "Certified")
    await drifting.goes(prompt, "slm", "confidence")
    assert (await drifting.state())["drift"]["alarm"] is None
    drifting.file.write_bytes(with_charts())
    await drifting.is_guaranteed("False", "Drifted")


async def test_a_broken_file_leaves_the_policy_in_force_and_is_told(route: Route) -> None:
    prompt, _ = find_prompt(certified(), 0.9, 1.0)
    await route.goes(prompt, "slm", "confidence")
    route.file.write_bytes(certified()[:-10])

    async def told() -> bool:
        policy = (await route.state())["policy"]
        return policy["problem"] is not None and "damaged" in policy["problem"]

    await eventually(told, SECONDS)
    await route.is_guaranteed("True", "Certified")
    await route.goes(prompt, "slm", "confidence")
    assert 'hybridroute_policy_valid{route="support"} 0.0' in await route.metrics()
