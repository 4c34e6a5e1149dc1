"""A calibrated policy on a route that really runs: made by the command line, edited, and asked through the gateway."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from hybridroute_api.vocabulary import EmbeddingName
from hybridroute_lab.tables import Outcomes
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer
from hybridroute_serve.routing.embeddings import load_embedder
from support.lab_rows import labelled_texts
from support.live_route import LiveRoute, example_route

__all__ = ["OUTCOMES", "CalibratedRoute", "write_labels"]

OUTCOMES = ("--weak-column", "small", "--strong-column", "large")


def write_labels(path: Path, rows: Outcomes) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "small", "large"])
        writer.writerows(zip(rows.prompts, rows.weak, rows.strong, strict=True))
    return path


class CalibratedRoute:
    """The route with a policy of its own, and ways to change either.

    `changes`: of the example route; `embedding`: what the policy is made with.
    """

    def __init__(
        self, route: LiveRoute, changes: dict[str, Any], embedding: EmbeddingName = EmbeddingName.STATIC
    ) -> None:
        self.route = route
        self._changes = changes
        self._embedder = load_embedder(embedding)
        self._options = ("--embedding", embedding)
        self.folder = route.file.parent
        self.artifact = self.folder / "support.artifact"

    async def run(self, *arguments: object) -> None:
        status, out, err = await self.route.command(*map(str, arguments))
        assert status == 0, (out, err)

    async def calibrate(self, rows: Outcomes) -> None:
        """Make the policy of these rows, and put it in force."""
        labels = write_labels(self.folder / "labels.csv", rows)
        await self.run(
            *("calibrate", "--route", self.route.file, "--data", labels, *OUTCOMES, *self._options),
            *("-o", self.artifact),
        )
        await self.use()

    async def use(
        self,
        *,
        max_risk: str = "0.1",
        slm: str | None = None,
        llm: str | None = None,
        audit_share: str | None = None,
    ) -> None:
        document: dict[str, Any] = yaml.safe_load(example_route(self._changes))
        routing = document["spec"]["routing"]
        document["spec"]["routing"] = {
            **({"scaling": routing["scaling"]} if "scaling" in routing else {}),
            "policy": {"file": self.artifact.name},
            "confidence": {"maxRisk": max_risk},
            "drift": {"action": "Tighten", "tightenMaxRisk": "0.03"},
            **({"audit": {"share": audit_share}} if audit_share is not None else {}),
        }
        if slm is not None:
            document["spec"]["slm"]["model"]["uri"] = slm
        if llm is not None:
            document["spec"]["llm"]["upstreams"][0]["model"] = llm
        await self.route.use(yaml.safe_dump(document))

    @property
    def scorer(self) -> ArtifactScorer:
        return ArtifactScorer.from_bytes(self.artifact.read_bytes(), self._embedder)

    def find_prompt(self, low: float, high: float) -> tuple[str, float]:
        """Return a prompt in scope whose confidence is between two, and that confidence."""
        scorer = self.scorer
        for text in labelled_texts(1_000, seed=3).texts:
            scores = scorer.score_text(text)
            assert scores.confidence is not None
            if low < scores.confidence < high and scores.scope > scorer.header.scope.threshold:
                return text, scores.confidence
        raise AssertionError(f"no prompt between {low} and {high}")

    def kept(self, texts: Iterable[str]) -> set[str]:
        """Return those that the policy keeps on the SLM."""
        scorer, threshold = self.scorer, self.threshold(0.1)
        scores = {text: scorer.score_text(text) for text in texts}
        return {
            text
            for text, score in scores.items()
            if score.confidence is not None
            and score.confidence >= threshold
            and score.scope >= scorer.header.scope.threshold
        }

    def threshold(self, max_risk: float) -> float:
        promise = self.scorer.header.promise
        assert promise is not None
        threshold = promise.threshold_for(max_risk, 0.1).threshold
        assert threshold is not None
        return threshold

    async def is_guaranteed(self, status: str, reason: str) -> None:
        async def said() -> bool:
            state = await self.route.keeper("/state")
            guarantee = state["guarantee"]
            return (guarantee["status"], guarantee["reason"]) == (status, reason)

        await self.route.until(said, 60.0)

    async def goes(self, prompt: str, path: str, gate: str) -> dict[str, str]:
        """Ask until the prompt goes that way; return the headers of the answer that did."""
        found: list[dict[str, str]] = []

        async def went() -> bool:
            answer = await self.route.chat(prompt)
            await answer.read()
            headers = {name.lower(): value for name, value in answer.headers.items()}
            found.append(headers)
            said = headers.get("x-hybridroute-path"), headers.get("x-hybridroute-gate")
            return answer.status == 200 and said == (path, gate)

        await self.route.until(went, 60.0)
        return found[-1]

    async def record(self, headers: dict[str, str]) -> dict[str, Any]:
        record: dict[str, Any] = (await self.route.record(headers["x-hybridroute-request-id"]))["record"]
        return record
