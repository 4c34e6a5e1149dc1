"""The router's view of the live policy: the document, and the scorer and keyring that belong to it, swapped together.

Embedding a few hundred examples takes tens of milliseconds, and reading an artifact up to 200, so a scorer is made in
a thread, and only when examples or artifact changed. What a changed `maxRisk` makes of an artifact is a look-up.

An artifact names its embedding. Another than the static one is loaded with the first artifact that wants it, and goes
with the last.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from hybridroute_api.serving import LivePolicy
from hybridroute_serve.auth.keyring import Keyring, KeyringFile
from hybridroute_serve.routing.artifact.file import decode_artifact
from hybridroute_serve.routing.artifact.scorer import ArtifactScorer, load_artifact
from hybridroute_serve.routing.artifact.terms import plan_terms
from hybridroute_serve.routing.artifact.validity import route_models
from hybridroute_serve.routing.by_artifact import CalibratedPolicy
from hybridroute_serve.routing.embedding import Embedder
from hybridroute_serve.routing.embeddings import load_embedder
from hybridroute_serve.routing.examples import ExamplesScorer, Scorer

__all__ = ["ActivePolicy", "PolicyHolder"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ActivePolicy:
    """What one request is decided with from its start to its end."""

    document: LivePolicy
    scorer: Scorer | None
    """None when the route has no examples."""
    calibrated: CalibratedPolicy | None = None
    """None when the route asks for no calibrated policy, and until its artifact has come."""
    keyring: Keyring | None = None
    """None on an open route, and on one whose clients could never be read, which lets nobody in."""


class PolicyHolder:
    """Holds the active policy; replaced whole, so a request never sees half a change."""

    def __init__(
        self, embedder: Embedder, *, blind: bytes, load: Callable[[str], Embedder] = load_embedder
    ) -> None:
        """`embedder`: for examples, and for artifacts that name it; `load` returns others by their names.

        `blind`: random bytes for `Keyring`.
        """
        self._embedder = embedder
        self._load = load
        self._blind = blind
        self._active: ActivePolicy | None = None
        self._artifact: ArtifactScorer | None = None
        self._clients: KeyringFile | None = None

    @property
    def active(self) -> ActivePolicy | None:
        """The policy in force; None until the first has come."""
        return self._active

    @property
    def clients_problem(self) -> str | None:
        """Why the clients file as it is now is not in force; None when it is, and on an open route."""
        return self._clients.problem if self._clients is not None else None

    async def apply_policy(self, document: LivePolicy) -> None:
        """Put a document in force."""
        routing = document.routing
        before = self._active
        if before is not None and _examples(before.document) == _examples(document):
            scorer = before.scorer
        elif routing.local_examples or routing.remote_examples:
            scorer = await asyncio.to_thread(
                ExamplesScorer, self._embedder, routing.local_examples, routing.remote_examples
            )
        else:
            scorer = None
        clients = self._clients_of(document)
        if clients is not None:
            await clients.refresh()
        self._clients = clients
        keyring = clients.keyring if clients is not None else None
        # No await between the look at the artifact and here: both changes come in tasks of their own.
        self._active = ActivePolicy(document, scorer, self._calibrate(document), keyring)
        _log.info("applied the live policy route=%s version=%s", document.route, document.version)

    @property
    def artifact(self) -> str:
        """Digest of the artifact that is loaded; empty while none is."""
        return self._artifact.digest if self._artifact is not None else ""

    async def apply_artifact(self, data: bytes) -> None:
        """Put an artifact in force. Raises a kind of `ArtifactError` and then leaves the last one."""
        self._artifact = await asyncio.to_thread(self._read_artifact, data)
        active = self._active
        if active is not None:
            self._active = replace(active, calibrated=self._calibrate(active.document))
        _log.info("applied the calibrated policy artifact=%s", self._artifact.digest[:12])

    def _read_artifact(self, data: bytes) -> ArtifactScorer:
        return load_artifact(decode_artifact(data), self._find_embedder)

    def _find_embedder(self, name: str) -> Embedder:
        loaded = [self._embedder, *([self._artifact.embedder] if self._artifact is not None else [])]
        return next((embedder for embedder in loaded if embedder.name == name), None) or self._load(name)

    def _calibrate(self, document: LivePolicy) -> CalibratedPolicy | None:
        asked, scorer = document.routing.artifact, self._artifact
        if asked is None or scorer is None:
            return None
        return CalibratedPolicy(
            scorer,
            plan_terms(scorer.header, scorer.digest, asked, route_models(document), document.routing.cascade),
            is_slow=scorer.embedder.is_slow,
        )

    async def refresh_clients(self) -> None:
        """Put the clients file in force if it has changed."""
        clients = self._clients
        if clients is None:
            return
        await clients.refresh()
        active = self._active
        if active is not None and clients is self._clients and active.keyring is not clients.keyring:
            self._active = replace(active, keyring=clients.keyring)

    def _clients_of(self, document: LivePolicy) -> KeyringFile | None:
        if document.auth is None:
            return None
        if self._clients is not None and self._clients.path == document.auth.keys_file:
            return self._clients
        return KeyringFile(document.auth.keys_file, blind=self._blind)


def _examples(document: LivePolicy) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return document.routing.local_examples, document.routing.remote_examples
