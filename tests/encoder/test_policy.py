"""A policy that is made with the encoder: what its artifact says and holds, alone and on a route that really runs."""

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest
import pytest_asyncio

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_lab.calibrate import CalibrateOptions, calibrate_outcomes, certify_artifact
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.header import MAX_ARTIFACT_BYTES
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer, check_artifact
from hybridroute_serve.routing.embeddings import read_embedding_digest
from hybridroute_serve.routing.encoder import EncoderEmbedder
from support.calibrated_route import CalibratedRoute
from support.lab_rows import TOPICS, labelled_texts, outcomes
from support.live_route import LiveRoute, running_route
from support.upstream import answer_json, chat_answer, running_upstream

MADE = date(2025, 1, 2)
CHANGES = {"spec": {"slm": {"timeouts": {"firstByte": "15s", "total": "60s"}}}}


def test_it_learns_promises_and_names_its_embedding(encoder: EncoderEmbedder) -> None:
    options = CalibrateOptions(drift_limits=False)
    data = calibrate_outcomes(outcomes(600), encoder, MADE, options)
    header = check_artifact(data, read_embedding_digest).header
    assert (header.embedding_name, header.embedding) == (EmbeddingName.MINILM, encoder.digest)
    assert header.promise is not None
    assert header.promise.threshold_for(0.1, 0.1).threshold is not None
    assert set(header.labels) == set(TOPICS)
    scorer = ArtifactScorer.from_bytes(data, encoder)
    fresh = labelled_texts(100, seed=8)
    scores = [scorer.score_text(text) for text in fresh.texts]
    named = [score.nearest == label for score, label in zip(scores, fresh.labels, strict=True)]
    assert sum(named) >= 95
    renewed = certify_artifact(data, outcomes(300, seed=4), encoder, MADE, {})
    assert decode_artifact(renewed).header.embedding_name == EmbeddingName.MINILM


def test_processes_of_their_own_make_the_same_artifact(encoder: EncoderEmbedder) -> None:
    rows = outcomes(640)
    alone, shared = (
        calibrate_outcomes(rows, encoder, MADE, CalibrateOptions(drift_limits=False, workers=workers))
        for workers in (1, 2)
    )
    assert alone == shared
    assert len(alone) < MAX_ARTIFACT_BYTES


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def calibrated(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CalibratedRoute]:
    home: Path = tmp_path_factory.mktemp("home")
    async with running_upstream() as provider:
        provider.default = answer_json(chat_answer())
        environ = {"OPENAI_API_KEY": "sk-provider", "OPENAI_BASE_URL": provider.base_url}
        async with running_route(home, environ, CHANGES) as route:
            made = CalibratedRoute(route, CHANGES, EmbeddingName.MINILM)
            await made.calibrate(outcomes(600))
            yield made


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(300)
async def test_a_route_scores_with_the_encoder_exactly_as_calibration_did(
    calibrated: CalibratedRoute,
) -> None:
    route: LiveRoute = calibrated.route
    loose = calibrated.threshold(0.1)
    kept, above = calibrated.find_prompt(loose, 1.0)
    headers = await calibrated.goes(kept, "slm", "confidence")
    assert abs(float(headers["x-hybridroute-confidence"]) - above) <= 1e-6
    moved, below = calibrated.find_prompt(0.0, loose)
    headers = await calibrated.goes(moved, "llm", "confidence")
    assert abs(float(headers["x-hybridroute-confidence"]) - below) <= 1e-6
    record = await calibrated.record(headers)
    assert record["artifact"] == calibrated.scorer.digest
    assert record["decision_seconds"] > 0.0005
    await calibrated.is_guaranteed("True", "Certified")
    assert (await route.keeper("/state"))["policy"]["problem"] is None
