"""An embedding that an evaluation asks for each prompt many times."""

import time

import numpy as np

from hybridroute_lab.evaluation.scope import evaluate_scope
from hybridroute_lab.remembered import remember_slow
from hybridroute_serve.routing.embedding import Vector
from support.lab_rows import WordEmbedder, labelled_texts, strange_texts
from support.one_thread import one_thread

__all__ = ["one_thread"]


class Counting(WordEmbedder):
    def __init__(self, *, is_slow: bool) -> None:
        super().__init__(name="minilm", is_slow=is_slow)
        self.asked: list[str] = []

    def embed(self, text: str) -> Vector:
        self.asked.append(text)
        return super().embed(text)


def test_a_slow_one_is_asked_once_a_text_and_a_quick_one_each_time() -> None:
    slow, quick = Counting(is_slow=True), Counting(is_slow=False)
    remembering = remember_slow(slow)
    first, again = remembering.embed("a refund"), remembering.embed("a refund")
    np.testing.assert_array_equal(first, again)
    assert slow.asked == ["a refund"]
    assert (remembering.name, remembering.digest, remembering.is_slow) == ("minilm", slow.digest, False)
    assert remember_slow(quick) is quick


def test_an_evaluation_says_the_same_and_times_the_embedding_itself() -> None:
    train, inside, outside = labelled_texts(200), labelled_texts(80, seed=1), strange_texts(60)
    reports, asked = [], []
    for is_slow in (True, False):
        embedder = Counting(is_slow=is_slow)
        report = evaluate_scope(train, inside, outside, embedder, clock=time.thread_time).report
        report.pop("decision_us")
        reports.append(report)
        asked.append(embedder.asked)
    slow, quick = asked
    assert reports[0] == reports[1]
    assert set(slow) == set(quick)
    # Once each for the gate, and the timed ones once more.
    assert len(slow) <= len(set(slow)) + len(inside.texts)
    assert len(quick) > len(slow)
