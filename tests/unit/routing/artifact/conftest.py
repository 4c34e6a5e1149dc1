"""One artifact with a promise and one of labels alone, made once."""

from datetime import date

import pytest

from hybridroute_lab.calibrate import CalibrateOptions, calibrate_labels, calibrate_outcomes
from support.lab_rows import WordEmbedder, labelled_texts, outcomes
from support.one_thread import one_thread

__all__ = ["one_thread"]

MADE = date(2025, 1, 2)


@pytest.fixture(scope="session")
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture(scope="session")
def certified(embedder: WordEmbedder) -> bytes:
    options = CalibrateOptions(models={"slm": "abc"}, drift_limits=False)
    return calibrate_outcomes(outcomes(600), embedder, MADE, options)


@pytest.fixture(scope="session")
def labels_only(embedder: WordEmbedder) -> bytes:
    return calibrate_labels(labelled_texts(400), embedder, MADE, CalibrateOptions(drift_limits=False))
