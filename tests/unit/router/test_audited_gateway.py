"""Audits through the whole gateway: the condition, the alarm's action, the dollars, and what can be read of them.

Router, llm-proxy and keeper run; provider and SLM are scripted.
"""

import json
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hybridroute_api.serving import BudgetPolicy, LivePolicy, LlmPolicy, RecordsPolicy
from hybridroute_api.vocabulary import DriftAction, ExhaustedAction, PathName
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.drift import disagreement
from support.artifacts import artifact_policy, certified, recertified
from support.eventually import eventually
from support.gateway_bench import Answered, GatewayBench, running_gateway
from support.keepers import write_live
from support.lab_rows import WordEmbedder, labelled_texts
from support.one_thread import one_thread
from support.policies import a_policy, a_retry_policy, an_upstream
from support.upstream import ScriptedUpstream, answer_json, answer_status, chat_answer, running_upstream

__all__ = ["one_thread"]

SECONDS = 30.0
BASELINE = 12
"""Few enough pairs for a test to make; the real number is a matter of the e-process's own tests."""
PRICE = 100 * 2_500 + 20 * 10_000
"""Nano-USD of the scripted answer at the primary's prices."""


class AuditedRoute:
    """One gateway whose every kept request is audited."""

    def __init__(self, directory: Path, upstream: ScriptedUpstream) -> None:
        self.directory = directory
        self.file = directory / "support.artifact"
        self.file.write_bytes(certified())
        self.upstream = upstream
        self.gateway: GatewayBench
        self.prompt = self._find_prompt()

    def policy(self, *, limit_nano_usd: int | None = None, share: float = 1.0) -> LivePolicy:
        base = a_policy()
        artifact = artifact_policy(
            file=str(self.file), audit_share=share, drift_action=DriftAction.ESCALATE_ALL
        )
        budget = None
        if limit_nano_usd is not None:
            degrade = ExhaustedAction.DEGRADE
            budget = BudgetPolicy(
                limit_nano_usd=limit_nano_usd,
                window="24h",
                on_exhausted=degrade,
                on_exhausted_out_of_scope=degrade,
            )
        return a_policy(
            routing=base.routing.model_copy(
                update={"local_examples": (), "remote_examples": (), "artifact": artifact}
            ),
            llm=LlmPolicy(
                upstreams=(an_upstream(base_url=self.upstream.base_url),), retries=a_retry_policy()
            ),
            budget=budget,
            records=RecordsPolicy(max_age_seconds=3_600.0, max_bytes=2**30, prompt_text=True),
        )

    def edit(self, **changes: Any) -> None:
        write_live(self.directory, self.policy(**changes))

    def slm_says(self, text: str) -> None:
        async def handle(_: web.Request) -> web.StreamResponse:
            return web.json_response({"choices": [{"message": {"role": "assistant", "content": text}}]})

        self.gateway.slm.handlers[PathName.SLM] = handle

    def llm_says(self, text: str) -> None:
        self.upstream.default = answer_json(chat_answer(text))

    async def ask(self, path: str = "slm") -> Answered:
        answer = await self.gateway.chat(self.prompt)
        assert (answer.status, answer.headers["x-hybridroute-path"]) == (200, path)
        return answer

    async def state(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((await self.gateway.keeper("/state")).text)
        return document

    async def costs(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((await self.gateway.keeper("/costs")).text)
        return document

    async def is_compared(self, count: int) -> None:
        async def compared() -> bool:
            return bool((await self.state())["drift"]["audit"]["compared"] >= count)

        await eventually(compared, SECONDS)

    async def is_guaranteed(self, status: str, reason: str) -> str:
        messages: list[str] = []

        async def said() -> bool:
            guarantee = (await self.state())["guarantee"]
            messages.append(guarantee["message"])
            return (guarantee["status"], guarantee["reason"]) == (status, reason)

        await eventually(said, SECONDS)
        return messages[-1]

    async def is_metered(self, line: str) -> None:
        async def metered() -> bool:
            return line in (await self.gateway.keeper("/metrics")).text.splitlines()

        await eventually(metered, SECONDS)

    async def serves_by(self, path: str) -> None:
        async def served() -> bool:
            answer = await self.gateway.chat(self.prompt)
            return (answer.status, answer.headers.get("x-hybridroute-path")) == (200, path)

        await eventually(served, SECONDS)

    def _find_prompt(self) -> str:
        scorer = ArtifactScorer.from_bytes(certified(), WordEmbedder())
        for text in labelled_texts(400, seed=3).texts:
            scores = scorer.score_text(text)
            if scores.confidence is not None and scores.confidence > 0.9 and scores.scope > 0.3:
                return text
        raise AssertionError("no such prompt")


@pytest.fixture
async def route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AuditedRoute]:
    monkeypatch.setattr(disagreement, "BASELINE_COMPARISONS", BASELINE)
    async with running_upstream() as upstream:
        made = AuditedRoute(tmp_path, upstream)
        async with running_gateway(WordEmbedder(), tmp_path, made.policy()) as made.gateway:
            made.slm_says("billing")
            made.llm_says("Billing.")
            await made.serves_by("slm")
            yield made


async def test_answers_that_grow_apart_void_the_promise_act_and_are_explained(route: AuditedRoute) -> None:
    await route.is_guaranteed("True", "Certified")
    for _ in range(BASELINE):
        answer = await route.ask()
    await route.is_compared(BASELINE)
    request_id = answer.headers["x-hybridroute-request-id"]

    async def told() -> bool:
        explained = await route.gateway.explain(answer)
        return f"audited by {request_id}.audit: both paths say the same" in explained

    await eventually(told, SECONDS)

    await route.is_metered('hybridroute_audit_differing_ratio{route="support",share="recent"} 0.0')
    route.llm_says("travel")

    async def rings() -> bool:
        await route.gateway.chat(route.prompt)
        return (await route.state())["drift"]["alarm"] is not None

    await eventually(rings, SECONDS)
    message = await route.is_guaranteed("False", "ConceptDrift")
    assert re.search(r"of \d+ audited pairs \d+ differ since the first \d+, lately \d+% ", message), message
    assert "e-value" in message
    assert "certify the policy on new labels" in message
    await route.serves_by("llm")
    alarm = (await route.state())["drift"]["alarm"]
    assert alarm["charts"] == ["audit"]
    assert alarm["audit"]["cut"] == disagreement.CUTS[0]
    await route.is_metered('hybridroute_drift_alarms_total{chart="audit",route="support"} 1.0')
    await route.is_metered(
        'hybridroute_guarantee_info{reason="ConceptDrift",route="support",status="False"} 1.0'
    )

    route.file.write_bytes(recertified(certified()))
    await route.is_guaranteed("True", "Certified")
    await route.serves_by("slm")


async def test_copies_go_on_while_all_is_escalated_and_the_alarm_ends(route: AuditedRoute) -> None:
    """The alarm's own action must not blind it: kept requests are still compared, by copies to the SLM."""
    for _ in range(BASELINE):
        await route.ask()
    await route.is_compared(BASELINE)
    route.llm_says("travel")
    await route.serves_by("llm")
    route.llm_says("billing")

    async def ends() -> bool:
        for _ in range(10):
            await route.gateway.chat(route.prompt)
        return (await route.state())["drift"]["alarm"] is None

    await eventually(ends, 2 * SECONDS)
    await route.serves_by("slm")
    await route.is_guaranteed("False", "ConceptDrift")
    await route.is_metered('hybridroute_drift_alarm{route="support"} 0.0')


async def test_audits_cost_dollars_and_are_no_requests(route: AuditedRoute) -> None:
    await route.is_compared(1)  # the fixture's
    paid_line = 'hybridroute_cost_usd_total{gate="audit",model="big",path="llm",route="support"}'
    await route.is_metered(f"{paid_line} {PRICE / 1e9}")
    before = await route.costs()
    for _ in range(5):
        answer = await route.ask()
    await route.is_compared(6)
    await route.is_metered('hybridroute_audits_total{path="llm",result="compared",route="support"} 6.0')
    await route.is_metered(f"{paid_line} {6 * PRICE / 1e9}")
    costs = await route.costs()

    assert costs["requests"] - before["requests"] == 5
    assert costs["paths"]["slm"]["requests"] - before["paths"]["slm"]["requests"] == 5
    assert costs["paths"]["llm"]["requests"] == before["paths"]["llm"]["requests"]
    paid = [Decimal(document["paths"]["llm"]["usd"]) for document in (before, costs)]
    assert paid[1] - paid[0] == Decimal(5 * PRICE) / 10**9
    assert costs["all_llm_usd"] == before["all_llm_usd"], "nobody got what the copies cost"
    metrics = (await route.gateway.keeper("/metrics")).text
    assert not [line for line in metrics.splitlines() if "_requests_total{" in line and "audit" in line]
    copied = await route.gateway.keeper(f"/records/{answer.headers['x-hybridroute-request-id']}.audit")
    document = json.loads(copied.text)
    assert document["cost_usd"] == f"{PRICE / 1e9:.9f}"
    assert "gate audit" in document["explanation"]
    assert "drawn with chance 1, both paths say the same" in document["explanation"]


async def test_a_budget_that_bears_no_audit_is_said_until_it_does(route: AuditedRoute) -> None:
    route.edit(limit_nano_usd=1_000)

    async def stops() -> bool:
        await route.ask()
        guarantee = (await route.state())["guarantee"]
        return (guarantee["status"], guarantee["reason"]) == ("Unknown", "AuditStopped")

    await eventually(stops, SECONDS)
    assert "the dollar budget has borne no audit since" in await route.is_guaranteed(
        "Unknown", "AuditStopped"
    )
    await route.is_metered('hybridroute_audit_stopped{route="support"} 1.0')

    async def is_outside() -> bool:
        told = json.loads(await route.gateway.explain(await route.ask()))
        return bool(told["record"]["outside_promise"] == "not_promised")

    await eventually(is_outside, SECONDS)

    route.edit(limit_nano_usd=10**12)

    async def resumes() -> bool:
        await route.ask()
        return bool((await route.state())["guarantee"]["status"] == "True")

    await eventually(resumes, SECONDS)
    await route.is_metered('hybridroute_audit_stopped{route="support"} 0.0')


async def test_a_route_that_no_longer_asks_for_audits_misses_none(route: AuditedRoute) -> None:
    route.edit(limit_nano_usd=1_000)

    async def stops() -> bool:
        await route.ask()
        return bool((await route.state())["guarantee"]["reason"] == "AuditStopped")

    await eventually(stops, SECONDS)
    route.edit(limit_nano_usd=1_000, share=0.0)
    await route.is_guaranteed("True", "Certified")


async def test_a_copy_takes_no_retry_token(route: AuditedRoute) -> None:
    # The copy of the route's first request is on its way until then.
    await route.is_compared(1)
    route.upstream.default = answer_status(500)
    asked = len(route.upstream.requests)
    answer = await route.ask()

    async def told() -> bool:
        explained = await route.gateway.explain(answer)
        return "nothing to compare, llm upstream_error" in explained

    await eventually(told, SECONDS)
    assert len(route.upstream.requests) == asked + 1
    await route.is_metered('hybridroute_audits_total{path="llm",result="failed",route="support"} 1.0')
    metrics = (await route.gateway.keeper("/metrics")).text
    extra = [
        line for line in metrics.splitlines() if line.startswith("hybridroute_retry_extra_attempts_total{")
    ]
    assert [line for line in extra if not line.endswith(" 0.0")] == []


async def test_audited_requests_can_be_read_for_labelling(route: AuditedRoute) -> None:
    await route.ask()
    await route.is_compared(2)
    document = json.loads((await route.gateway.keeper("/audits?limit=1")).text)

    [row] = document["audits"]
    assert row["prompt"] == route.prompt
    assert (row["propensity"], row["disagreement"], row["outcome"]) == (1.0, 0.0, "ok")
    assert (row["served_by"], row["copied_to"]) == ("slm", "llm")
    assert row["request_id"].startswith("hr-")
    assert row["confidence"] > 0.9
    assert (await route.gateway.keeper("/audits?limit=0")).status == 400
