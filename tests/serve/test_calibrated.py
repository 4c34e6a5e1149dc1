"""A calibrated policy on a route that really runs: from labels to a promise, what voids it, and what restores it."""

import asyncio
import csv
import re
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import islice

import pytest_asyncio

from hybridroute_serve.engines.models import find_model
from hybridroute_serve.routing.drift.disagreement import BASELINE_COMPARISONS
from serve.conftest import FAST
from support.calibrated_route import OUTCOMES, CalibratedRoute, write_labels
from support.lab_rows import labelled_texts, outcomes, strange_texts
from support.live_route import LiveRoute
from support.upstream import Exchange, ScriptedUpstream, answer_json, chat_answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def calibrated(session_route: LiveRoute, provider: ScriptedUpstream) -> AsyncIterator[CalibratedRoute]:
    provider.default = answer_json(chat_answer())
    made = CalibratedRoute(session_route, FAST)
    await made.calibrate(outcomes(1_200))
    try:
        yield made
    finally:
        await session_route.change(FAST)


async def test_labels_become_a_promise_that_is_edited_voided_and_restored(
    calibrated: CalibratedRoute,
) -> None:
    route = calibrated.route
    loose, strict = calibrated.threshold(0.1), calibrated.threshold(0.05)
    prompt, confidence = calibrated.find_prompt(loose, strict)
    headers = await calibrated.goes(prompt, "slm", "confidence")
    assert abs(float(headers["x-hybridroute-confidence"]) - confidence) <= 1e-6
    await calibrated.is_guaranteed("True", "Certified")
    record = await calibrated.record(await calibrated.goes(prompt, "slm", "confidence"))
    assert (record["artifact"], record["guarantee_covered"]) == (calibrated.scorer.digest, True)
    assert record["threshold"] == loose

    await calibrated.use(max_risk="0.05")
    escalated = await calibrated.goes(prompt, "llm", "confidence")
    assert (await calibrated.record(escalated))["threshold"] == strict
    await calibrated.use()
    await calibrated.goes(prompt, "slm", "confidence")

    await calibrated.use(llm="another-model")
    await calibrated.is_guaranteed("False", "ModelsChanged")
    other = calibrated.folder / "other-slm.gguf"
    other.symlink_to(find_model("bundled:smollm2-135m").path)
    await calibrated.use(slm=other.name)
    await calibrated.is_guaranteed("False", "ModelsChanged")
    outside = await calibrated.record(await calibrated.goes(prompt, "slm", "confidence"))
    assert (outside["guarantee_covered"], outside["outside_promise"]) == (False, "not_promised")
    status, out, _ = await route.command("status")
    assert status == 0
    told = " ".join(out.split())
    assert re.search(
        "GuaranteeValid False, ModelsChanged: slm was smollm2-135m when .* is SmolLM2-135M-Instruct", told
    ), told
    await calibrated.use()
    await calibrated.is_guaranteed("True", "Certified")


async def test_drifted_traffic_voids_the_promise_and_acts_until_it_is_certified_anew(
    calibrated: CalibratedRoute,
) -> None:
    route = calibrated.route
    prompt, _ = calibrated.find_prompt(calibrated.threshold(0.1), calibrated.threshold(0.03))
    await calibrated.goes(prompt, "slm", "confidence")

    seeds = iter(range(1_000))

    async def rings() -> bool:
        for text in strange_texts(40, seed=next(seeds)).texts:
            await (await route.chat(text)).read()
        state = await route.keeper("/state")
        return state["drift"]["alarm"] is not None

    await route.until(rings, 240.0)
    moved = await calibrated.goes(prompt, "llm", "drift")
    await calibrated.is_guaranteed("False", "Drifted")
    _, explained, _ = await route.command("explain", moved["x-hybridroute-request-id"])
    assert "tightened by the drift alarm" in explained

    fresh = write_labels(calibrated.folder / "fresh.csv", outcomes(1_200, seed=7))
    await calibrated.run(
        *("certify", calibrated.artifact, "--route", route.file, "--labels", fresh, *OUTCOMES),
        *("-o", calibrated.artifact),
    )
    await calibrated.is_guaranteed("True", "Certified")
    kept, _ = calibrated.find_prompt(calibrated.threshold(0.1), 1.0)
    digest = calibrated.scorer.digest

    async def decided_by_the_new_one() -> bool:
        # The keeper has it first; the old one keeps the surest prompts too.
        record = await calibrated.record(await calibrated.goes(kept, "slm", "confidence"))
        return bool(record["artifact"] == digest)

    await route.until(decided_by_the_new_one, 60.0)
    assert (await route.keeper("/state"))["drift"]["alarm"] is None


async def test_a_broken_artifact_is_refused_and_the_last_good_one_stays(calibrated: CalibratedRoute) -> None:
    route = calibrated.route
    good = calibrated.artifact.read_bytes()
    prompt, _ = calibrated.find_prompt(calibrated.threshold(0.1), 1.0)
    await calibrated.goes(prompt, "slm", "confidence")
    try:
        calibrated.artifact.write_bytes(good[:-5])
        status, _, err = await route.command("up", "-f", str(route.file))
        assert status == 1
        assert "spec.routing.policy.file" in err
        assert "the artifact is damaged" in err

        async def told() -> bool:
            policy = (await route.keeper("/state"))["policy"]
            return policy["problem"] is not None and "damaged" in policy["problem"]

        await route.until(told, 60.0)
        await calibrated.goes(prompt, "slm", "confidence")
        _, out, _ = await route.command("status")
        assert "the calibrated policy is not in force, the last good one is" in " ".join(out.split())
    finally:
        calibrated.artifact.write_bytes(good)


class Repeating:
    """A provider that repeats the SLM's answers to requests that are kept, until it is told to say something else."""

    def __init__(self, kept: set[str]) -> None:
        self._kept = kept
        self._said: dict[str, asyncio.Future[str]] = {}
        self.instead: str | None = None

    def tell(self, prompt: str, answer: str) -> None:
        """Say what the SLM has answered."""
        told = self._told(prompt)
        if not told.done():
            told.set_result(answer)

    async def __call__(self, exchange: Exchange) -> None:
        prompt = exchange.request.json()["messages"][-1]["content"]
        text = self.instead or "Hello there"
        if prompt in self._kept and self.instead is None:
            text = await self._told(prompt)
        await answer_json(chat_answer(text))(exchange)

    def _told(self, prompt: str) -> "asyncio.Future[str]":
        return self._said.setdefault(prompt, asyncio.get_running_loop().create_future())


async def test_answers_that_grow_apart_are_audited_and_void_the_promise(
    calibrated: CalibratedRoute, provider: ScriptedUpstream
) -> None:
    """The inputs stay what they were: nothing but the audit can see that the LLM now says something else."""
    route = calibrated.route
    texts = list(dict.fromkeys(labelled_texts(1_500, seed=21).texts))
    repeating = Repeating(calibrated.kept(texts))
    provider.default = repeating
    await calibrated.use(audit_share="1")
    await calibrated.is_guaranteed("True", "Certified")

    async def ask(text: str) -> None:
        async with await route.chat(text, max_tokens=3) as answer:
            said = await answer.json()
            if answer.headers["x-hybridroute-path"] == "slm":
                repeating.tell(text, said["choices"][0]["message"]["content"])

    async def compared() -> int:
        return int((await route.keeper("/state"))["drift"]["audit"]["compared"])

    asking = iter(texts)

    async def is_usual() -> bool:
        await asyncio.gather(*(ask(text) for text in islice(asking, 8)))
        return await compared() >= BASELINE_COMPARISONS

    await route.until(is_usual, 200.0)
    audit = (await route.keeper("/state"))["drift"]["audit"]
    assert (audit["cut"], audit["differing"]) == (0.1, 0)
    await calibrated.is_guaranteed("True", "Certified")

    repeating.instead = "never"

    async def rings() -> bool:
        await asyncio.gather(*(ask(text) for text in islice(asking, 4)))
        return (await route.keeper("/state"))["drift"]["alarm"] is not None

    await route.until(rings, 60.0)
    await calibrated.is_guaranteed("False", "ConceptDrift")
    state = await route.keeper("/state")
    assert state["drift"]["alarm"]["charts"] == ["audit"]
    assert state["drift"]["audit"]["compared"] < BASELINE_COMPARISONS + 60
    prompt, _ = calibrated.find_prompt(calibrated.threshold(0.1), calibrated.threshold(0.03))
    await calibrated.goes(prompt, "llm", "drift")
    _, out, _ = await route.command("status")
    assert "audited pairs" in " ".join(out.split())
    exported = calibrated.folder / "audits.csv"
    await calibrated.run("audit", "export", "-o", exported)
    with exported.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) >= BASELINE_COMPARISONS
    assert {row["propensity"] for row in rows} == {"1.0"}
    assert sum(row["disagreement"] == "1.0" for row in rows) >= 5
    costs = await route.json("costs")
    assert Decimal(costs["paths"]["llm"]["usd"]) > 0
    provider.default = answer_json(chat_answer())
