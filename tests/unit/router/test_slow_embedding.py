"""A policy whose embedding takes milliseconds: loaded when an artifact names it, and never in the loop that serves."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import EmbeddingName, PathName
from hybridroute_serve.router.policy import PolicyHolder
from hybridroute_serve.routing.artifact.errors import ArtifactEmbeddingError
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embedding import Embedder, EmbeddingUnavailableError, Vector
from support.artifacts import artifact_policy, certified, of_embedding
from support.eventually import eventually
from support.lab_rows import WordEmbedder, labelled_texts
from support.policies import a_policy
from support.router_bench import Bench, running_bench

PROMPT = labelled_texts(1, seed=3).texts[0]
SLOW = of_embedding(certified(), "minilm", "slow words")


class SlowEmbedder(WordEmbedder):
    """The same vectors, given out while a door is open, with a note of who asked."""

    def __init__(self) -> None:
        super().__init__("slow words", name=EmbeddingName.MINILM, is_slow=True)
        self.door = threading.Event()
        self.door.set()
        self.threads: list[threading.Thread] = []

    def embed(self, text: str) -> Vector:
        self.threads.append(threading.current_thread())
        assert self.door.wait(20.0)
        return super().embed(text)


class Shelf:
    """Loads embeddings by name, and counts."""

    def __init__(self) -> None:
        self.slow = SlowEmbedder()
        self.loaded: list[str] = []
        self.missing = False

    def load(self, name: str) -> Embedder:
        self.loaded.append(name)
        if self.missing:
            raise EmbeddingUnavailableError("onnxruntime not installed: pip install it")
        return self.slow


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def bench(shelf: Shelf) -> AsyncIterator[Bench]:
    async with running_bench(WordEmbedder(), load=shelf.load) as made:
        await made.use(asks_for_an_artifact())
        yield made


def asks_for_an_artifact() -> LivePolicy:
    changes = {"local_examples": (), "remote_examples": (), "artifact": artifact_policy()}
    return a_policy(routing=a_policy().routing.model_copy(update=changes))


async def ask_and_wait_for_scores(bench: Bench, shelf: Shelf) -> asyncio.Task[Any]:
    """Ask with the embedding's door closed; return the request when it stands before it."""
    shelf.slow.door.clear()
    waiting = asyncio.create_task(bench.chat(PROMPT))

    async def asked() -> bool:
        return len(shelf.slow.threads) > 0

    await eventually(asked, 10.0)
    return waiting


async def test_slow_scores_are_computed_in_a_thread_and_hold_up_nobody_else(
    bench: Bench, shelf: Shelf
) -> None:
    await bench.holder.apply_artifact(SLOW)
    waiting = await ask_and_wait_for_scores(bench, shelf)
    forced = await asyncio.wait_for(bench.chat(PROMPT, model="llm"), 10.0)
    assert forced.headers["x-hybridroute-gate"] == "forced"
    assert not waiting.done()
    shelf.slow.door.set()
    answer = await waiting
    scores = ArtifactScorer.from_bytes(SLOW, shelf.slow).score_text(PROMPT)
    assert scores.confidence is not None
    assert float(answer.headers["x-hybridroute-confidence"]) == pytest.approx(scores.confidence, abs=1e-6)
    assert shelf.slow.threads[0] is not threading.main_thread()
    assert bench.ledger.closed[-1].decision_seconds > 0.0


async def test_slow_scores_come_one_after_the_other(bench: Bench, shelf: Shelf) -> None:
    await bench.holder.apply_artifact(SLOW)
    answers = await asyncio.gather(*(bench.chat(PROMPT) for _ in range(6)))
    assert {answer.status for answer in answers} == {200}
    assert len(set(shelf.slow.threads)) == 1


async def test_a_client_that_leaves_while_its_decision_waits_is_recorded(bench: Bench, shelf: Shelf) -> None:
    await bench.holder.apply_artifact(SLOW)
    waiting = await ask_and_wait_for_scores(bench, shelf)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    shelf.slow.door.set()
    assert bench.ledger.closed[-1].status == 499
    assert bench.asked == []
    assert (await bench.chat(PROMPT)).status == 200


async def test_a_quick_decision_stays_in_the_loop(bench: Bench, shelf: Shelf, monkeypatch) -> None:
    threads: list[threading.Thread] = []
    embed = WordEmbedder.embed

    def note(self: WordEmbedder, text: str) -> Vector:
        threads.append(threading.current_thread())
        return embed(self, text)

    await bench.holder.apply_artifact(certified())
    monkeypatch.setattr(WordEmbedder, "embed", note)
    answer = await bench.chat(PROMPT)
    assert PathName(answer.headers["x-hybridroute-path"]) in PathName
    assert threads == [threading.main_thread()]
    assert shelf.loaded == []


async def test_an_embedding_is_loaded_with_the_first_artifact_that_names_it_and_goes_with_the_last(
    shelf: Shelf,
) -> None:
    holder = PolicyHolder(WordEmbedder(), blind=b"b" * 32, load=shelf.load)
    await holder.apply_policy(asks_for_an_artifact())
    await holder.apply_artifact(certified())
    assert shelf.loaded == []
    await holder.apply_artifact(SLOW)
    await holder.apply_artifact(of_embedding(certified(), "minilm", "slow words", created="2025-03-04"))
    assert shelf.loaded == ["minilm"]
    await holder.apply_artifact(certified())
    await holder.apply_artifact(SLOW)
    assert shelf.loaded == ["minilm", "minilm"]


async def test_without_the_embedding_the_last_good_policy_stays(shelf: Shelf) -> None:
    holder = PolicyHolder(WordEmbedder(), blind=b"b" * 32, load=shelf.load)
    await holder.apply_policy(asks_for_an_artifact())
    await holder.apply_artifact(certified())
    before, shelf.missing = holder.artifact, True
    with pytest.raises(
        ArtifactEmbeddingError, match="made with embedding minilm: onnxruntime not installed: pip install it"
    ):
        await holder.apply_artifact(SLOW)
    assert holder.artifact == before
    assert holder.active is not None
    assert holder.active.calibrated is not None
    assert not holder.active.calibrated.is_slow
