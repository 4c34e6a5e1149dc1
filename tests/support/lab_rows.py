"""Small made-up label files, and an embedding without weights, for tests of calibration."""

import hashlib
from collections.abc import Sequence

import numpy as np

from hybridroute_lab.tables import LabelledTexts, Outcomes
from hybridroute_serve.routing.embedding import Vector

TOPICS = {
    "billing": ["invoice", "refund", "charge", "payment", "receipt", "card"],
    "travel": ["flight", "hotel", "luggage", "airport", "ticket", "visa"],
    "cooking": ["recipe", "oven", "butter", "flour", "simmer", "salt"],
    "devices": ["router", "cable", "battery", "screen", "firmware", "reboot"],
}
STRANGE = ["galaxy", "neutrino", "orbit", "quasar", "comet", "telescope"]
FILLER = ["please", "tell", "me", "about", "the", "my", "a", "how", "can", "i", "why", "is"]


class WordEmbedder:
    """Mean of fixed random vectors, one a word. Same words, same vector."""

    def __init__(
        self, digest: str = "words", dimensions: int = 32, *, name: str = "static", is_slow: bool = False
    ) -> None:
        self.digest = digest
        self.name = name
        self.is_slow = is_slow
        self._dimensions = dimensions
        self._known: dict[str, Vector] = {}

    def embed(self, text: str) -> Vector:
        words = text.lower().split()
        if not words:
            return np.zeros(self._dimensions, dtype=np.float32)
        total: Vector = np.sum([self._vector(word) for word in words], axis=0, dtype=np.float32)
        return total / np.float32(np.linalg.norm(total))

    def _vector(self, word: str) -> Vector:
        if word not in self._known:
            seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "replace")).digest()[:8], "little")
            self._known[word] = np.random.default_rng(seed).normal(size=self._dimensions).astype(np.float32)
        return self._known[word]


def sentence(words: Sequence[str], rng: np.random.Generator) -> str:
    """A few words of a topic among words of none."""
    chosen = [*rng.choice(words, 3), *rng.choice(FILLER, 5)]
    return " ".join(rng.permutation(chosen).tolist()) + "?"


def labelled_texts(count: int, seed: int = 0) -> LabelledTexts:
    """Sentences about the topics, in turn."""
    rng = np.random.default_rng(seed)
    labels = [list(TOPICS)[row % len(TOPICS)] for row in range(count)]
    return LabelledTexts(tuple(sentence(TOPICS[label], rng) for label in labels), tuple(labels))


def strange_texts(count: int, seed: int = 0) -> LabelledTexts:
    """Sentences about something else."""
    rng = np.random.default_rng(seed)
    return LabelledTexts(tuple(sentence(STRANGE, rng) for _ in range(count)), ("strange",) * count)


def outcomes(count: int, seed: int = 0, *, graded: bool = False) -> Outcomes:
    """Prompts whose topic says how often the small model is right; the large one mostly is."""
    rng = np.random.default_rng(seed)
    texts = labelled_texts(count, seed)
    chance = {"billing": 0.97, "travel": 0.9, "cooking": 0.55, "devices": 0.3}
    right = np.array([chance[label] for label in texts.labels])
    weak = (rng.random(count) < right).astype(np.float64)
    strong = (rng.random(count) < 0.95).astype(np.float64)
    if graded:
        weak, strong = 0.2 + 0.6 * weak, 0.1 + 0.9 * strong
    return Outcomes(texts.texts, weak, strong, texts.labels, texts.labels)
