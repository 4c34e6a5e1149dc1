"""A drawn request's copy, over real HTTP to scripted paths: when it is sent, what it carries, what it leaves."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from msgspec.structs import replace

from hybridroute_api.records import DecisionRecord
from hybridroute_api.serving import LivePolicy
from hybridroute_api.standing import DriftStanding
from hybridroute_api.vocabulary import DriftAction, Gate, InternalHeader, Mode, Outcome, PathName
from hybridroute_serve.router import audit
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from support.artifacts import artifact_policy, certified
from support.eventually import eventually
from support.lab_rows import WordEmbedder, labelled_texts
from support.one_thread import one_thread
from support.path_apps import sse
from support.policies import a_policy
from support.router_bench import Bench, failing, running_bench, streaming

__all__ = ["one_thread"]

SLM, LLM = PathName.SLM, PathName.LLM
SECONDS = 15.0


def policy(share: float = 0.6, action: DriftAction = DriftAction.TIGHTEN, **changes: object) -> LivePolicy:
    base = a_policy()
    artifact = artifact_policy(audit_share=share, drift_action=action)
    routing = base.routing.model_copy(
        update={"local_examples": (), "remote_examples": (), "artifact": artifact}
    )
    return a_policy(routing=routing, **changes)


def prompt(*, kept: bool) -> str:
    scorer = ArtifactScorer.from_bytes(certified(), WordEmbedder())
    for text in labelled_texts(400, seed=3).texts:
        scores = scorer.score_text(text)
        assert scores.confidence is not None
        if scores.scope > 0.3 and (scores.confidence > 0.9 if kept else scores.confidence < 0.3):
            return text
    raise AssertionError("no such prompt")


def answering(text: str, upstream: str = "primary") -> object:
    async def handle(_: web.Request) -> web.StreamResponse:
        message = {"role": "assistant", "content": text}
        return web.json_response(
            {"choices": [{"message": message}]}, headers={InternalHeader.UPSTREAM: upstream}
        )

    return handle


@pytest.fixture
async def audited() -> AsyncIterator[Bench]:
    """A bench by the artifact, whose coin draws what has a chance of more than one half."""
    async with running_bench(WordEmbedder()) as bench:
        await bench.use(policy())
        await bench.holder.apply_artifact(certified())
        bench.paths.handlers.update({SLM: answering("billing", "slm"), LLM: answering("travel")})
        yield bench


async def the_audit(bench: Bench) -> DecisionRecord:
    async def ended() -> bool:
        return any(record.gate is Gate.AUDIT for record in bench.ledger.closed)

    await eventually(ended, SECONDS)
    [record] = [record for record in bench.ledger.closed if record.gate is Gate.AUDIT]
    return record


async def test_the_client_gets_the_decided_paths_answer_and_the_copy_is_compared(audited: Bench) -> None:
    answer = await audited.chat(prompt(kept=True), headers={"idempotency-key": "mine"}, max_tokens=5)

    assert answer.json()["choices"][0]["message"]["content"] == "billing"
    assert answer.headers["x-hybridroute-path"] == "slm"
    record = await the_audit(audited)
    request = audited.ledger.closed[0]
    assert (request.audit_propensity, request.audit, request.gate) == (0.6, None, Gate.CONFIDENCE)
    assert record.request_id == f"{request.request_id}.audit"
    assert (record.path, record.outcome, record.status) == (LLM, Outcome.OK, 200)
    assert record.artifact == decode_artifact(certified()).digest
    assert record.audit is not None
    assert (record.audit.of, record.audit.propensity) == (request.request_id, 0.6)
    assert record.audit.disagreement == 1.0
    assert record.confidence is None, "the charts of inputs must not see it twice"
    (_, _, first), (path, headers, copy) = audited.paths.seen
    assert (path, copy) == (LLM, first)
    assert headers["x-hybridroute-request-id"] == record.request_id
    assert headers["x-hybridroute-gate"] == "audit"
    assert 0.0 < float(headers["x-hybridroute-deadline-seconds"]) <= 61.0
    assert "idempotency-key" not in headers
    assert "x-hybridroute-client" not in headers


async def test_nobody_waits_for_the_copy(audited: Bench) -> None:
    release = asyncio.Event()

    async def late(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return await answering("billing")(request)  # type: ignore[operator, no-any-return]

    audited.paths.handlers[LLM] = late  # type: ignore[assignment]
    answer = await audited.chat(prompt(kept=True))

    assert answer.status == 200
    assert [record.gate for record in audited.ledger.closed] == [Gate.CONFIDENCE]
    release.set()
    record = await the_audit(audited)
    assert record.audit is not None
    assert record.audit.disagreement == 0.0


@pytest.mark.parametrize("drawn", [True, False])
async def test_the_coin_decides_and_the_chance_is_noted_either_way(audited: Bench, drawn: bool) -> None:
    audited.coin = 0.59 if drawn else 0.6
    await audited.chat(prompt(kept=True))

    assert audited.ledger.closed[0].audit_propensity == 0.6
    if drawn:
        await the_audit(audited)
    else:
        await asyncio.sleep(0.05)
        assert audited.asked == [SLM]


async def test_what_is_escalated_has_no_chance(audited: Bench) -> None:
    audited.coin = 0.0
    await audited.chat(prompt(kept=False))
    await asyncio.sleep(0.05)

    assert audited.asked == [LLM]
    assert audited.ledger.record.audit_propensity is None


async def test_a_stream_is_passed_on_and_compared(audited: Bench) -> None:
    done = b"data: [DONE]\n\n"
    audited.paths.handlers.update(
        {SLM: streaming([sse("bil", "ling"), done]), LLM: streaming([sse("billing"), done])}
    )
    answer = await audited.chat(prompt(kept=True), stream=True)

    assert answer.body == sse("bil", "ling") + done
    record = await the_audit(audited)
    assert record.stream
    assert record.audit is not None
    assert record.audit.disagreement == 0.0


async def test_a_request_that_moved_or_failed_is_not_copied(audited: Bench) -> None:
    audited.paths.handlers[SLM] = failing(503, Outcome.UPSTREAM_ERROR)
    moved = await audited.chat(prompt(kept=True))
    assert moved.headers["x-hybridroute-path"] == "llm"
    audited.paths.handlers[LLM] = failing(503, Outcome.UPSTREAM_ERROR)
    assert (await audited.chat(prompt(kept=True))).status == 503
    await asyncio.sleep(0.05)

    assert Gate.AUDIT not in [record.gate for record in audited.ledger.closed]


@pytest.mark.parametrize("outcome", [Outcome.UNAFFORDABLE, Outcome.THROTTLED, Outcome.TIMEOUT])
async def test_a_copy_that_fails_is_told_and_not_tried_again(audited: Bench, outcome: Outcome) -> None:
    audited.paths.handlers[LLM] = failing(429, outcome)
    answer = await audited.chat(prompt(kept=True))

    assert answer.status == 200
    record = await the_audit(audited)
    assert (record.outcome, record.status) == (outcome, 429)
    assert record.audit is not None
    assert record.audit.disagreement is None
    assert audited.asked == [SLM, LLM]


async def test_a_copy_ends_by_the_deadline_of_its_request(audited: Bench) -> None:
    """What the request itself took is gone from it."""

    async def slow(request: web.Request) -> web.StreamResponse:
        audited.skipped_seconds += 3_600.0
        return await answering("billing", "slm")(request)  # type: ignore[operator, no-any-return]

    audited.paths.handlers[SLM] = slow  # type: ignore[assignment]
    await audited.chat(prompt(kept=True))

    assert (await the_audit(audited)).outcome is Outcome.TIMEOUT
    assert audited.asked == [SLM]


async def test_another_upstream_than_the_promised_is_not_compared(audited: Bench) -> None:
    audited.paths.handlers[LLM] = answering("travel", "spare")  # type: ignore[assignment]
    await audited.chat(prompt(kept=True))

    record = await the_audit(audited)
    assert record.outcome is Outcome.OK
    assert record.audit is not None
    assert record.audit.disagreement is None
    assert "spare is not primary" in record.reason


async def test_an_answer_that_is_none_is_not_compared(audited: Bench) -> None:
    audited.paths.handlers[LLM] = streaming([sse("bil"), b'data: {"error": {"message": "cut"}}\n\n'])
    audited.paths.handlers[SLM] = streaming([sse("billing"), b"data: [DONE]\n\n"])
    await audited.chat(prompt(kept=True), stream=True)

    record = await the_audit(audited)
    assert record.outcome is Outcome.UPSTREAM_ERROR
    assert record.audit is not None
    assert record.audit.disagreement is None


async def test_while_an_alarm_escalates_all_the_copies_go_to_the_slm(audited: Bench) -> None:
    await audited.use(policy(action=DriftAction.ESCALATE_ALL))
    audited.standing = DriftStanding(decode_artifact(certified()).digest, alarm="audit", void="drift")
    answer = await audited.chat(prompt(kept=True))

    assert answer.headers["x-hybridroute-gate"] == "drift"
    record = await the_audit(audited)
    assert (record.path, audited.asked) == (SLM, [LLM, SLM])
    assert record.audit is not None
    assert record.audit.disagreement == 1.0


async def test_shadow_is_audited_too(audited: Bench) -> None:
    await audited.use(policy(mode=Mode.SHADOW, shadow_serve=LLM))
    await audited.chat(prompt(kept=True))

    assert (await the_audit(audited)).path is SLM
    assert audited.ledger.closed[0].shadow_path is SLM


async def test_a_crowd_of_copies_is_bounded_and_ends_with_the_replica(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "MOST_COPIES", 2)

    async def never(_: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with running_bench(WordEmbedder()) as bench:
        await bench.use(policy())
        await bench.holder.apply_artifact(certified())
        bench.paths.handlers[LLM] = never  # type: ignore[assignment]
        for _ in range(3):
            await bench.chat(prompt(kept=True))
        chances = [record.audit_propensity for record in bench.ledger.closed]
        assert chances == [0.6, 0.6, None]
    ended = [record for record in bench.ledger.closed if record.gate is Gate.AUDIT]
    assert [record.outcome for record in ended] == [Outcome.CANCELLED] * 2


async def test_a_long_answer_is_passed_on_and_not_kept(
    audited: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "LONGEST_ANSWER_BYTES", 20)
    answer = await audited.chat(prompt(kept=True))
    await asyncio.sleep(0.05)

    assert answer.status == 200
    assert audited.asked == [SLM]


async def test_a_defect_in_an_audit_leaves_a_record(audited: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(audit, "compare_answers", broken)
    await audited.chat(prompt(kept=True))

    record = await the_audit(audited)
    assert record.audit is not None
    assert record.audit == replace(record.audit, disagreement=None)
