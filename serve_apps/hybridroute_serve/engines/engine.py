"""What the SLM application needs of an engine, whichever it is.

An engine serves OpenAI's operations, over HTTP on loopback or as an ASGI application in this process; the relay talks
to either as to any upstream. Where its answers differ from OpenAI's, its `Dialect` says how.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from hybridroute_api.vocabulary import Api
from hybridroute_serve.wire.asgi import ASGIApp
from hybridroute_serve.wire.errors import ErrorAnswer

__all__ = ["Dialect", "Engine", "EngineDeadError", "EngineDescription", "EngineError", "EngineSignals"]


class EngineError(Exception):
    """An engine cannot start or does not answer. The message says what to do."""


class EngineDeadError(EngineError):
    """The engine has died and will not come back; only another replica helps."""


@dataclass(frozen=True, slots=True)
class EngineSignals:
    """Load of an engine now."""

    running: int
    """Sequences that are being generated."""
    waiting: int
    """Sequences that wait for a place in the batch."""
    cache_use: float | None = None
    """Share of the key-value cache that is taken, 0 to 1; None where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What a started engine serves."""

    engine: str
    model: str
    digest: str
    """`sha256:` and the hexadecimal digest of the weights."""
    context_tokens: int
    """Prompt and answer of one sequence together."""
    parallel_sequences: int
    tools: bool
    """False where the engine would ignore tools silently, because the model's chat template does not know them."""
    most_choices: int | None = None
    """Choices of one request at most; None: the engine has its own bound and says so."""
    completion_options: frozenset[str] = frozenset()
    """Of the options of completions that not every engine has, those that this one serves."""
    completion_formats: bool = False
    """Whether completions may ask for a format."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are served by their names."""


class Dialect(Protocol):
    """How an engine's server differs from OpenAI's. Pure."""

    @property
    def streams_always(self) -> bool:
        """True: the engine is asked for a stream also where the client wants one whole answer.

        False: requests and answers pass as they are, and the two methods below do nothing.
        """

    @property
    def bare_logprobs(self) -> bytes | None:
        """What a chunk that nobody asked for logprobs has in their place; None where it has no such field."""

    def prepare_body(self, body: bytes, api: Api) -> bytes:
        """Return the body as the engine must be asked: always for a stream that reports its usage.

        Of the client's fields only those pass that mean the same to the engine. Raises `InvalidRequest`.
        """

    def clean_events(self, block: bytes) -> bytes:
        """Return complete server-sent events without what no OpenAI client expects."""

    def explain_refusal(self, status: int, body: bytes) -> ErrorAnswer | None:
        """Return the client's error that an engine's refusal means, or None where it is the engine's failure."""


class Engine(Protocol):
    """One running engine. Methods raise `EngineError`."""

    @property
    def base_url(self) -> str:
        """Root of the engine's server, without a trailing slash and without the version segment.

        Empty for an application in this process.
        """

    @property
    def app(self) -> ASGIApp | None:
        """The engine's server where it is an application in this process; None where it listens at `base_url`."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that every request to the engine carries."""

    @property
    def dialect(self) -> Dialect:
        """How the engine's server differs from OpenAI's."""

    async def start(self) -> None:
        """Load the model and serve it."""

    async def check_ready(self) -> None:
        """Generate one token; return when it has come."""

    async def signals(self) -> EngineSignals:
        """Ask for the load. Raises `EngineDeadError` when there is nothing left to ask."""

    def describe(self) -> EngineDescription:
        """Say what is served; only after `start`."""

    async def close(self) -> None:
        """Stop serving and free the model. What is in flight breaks off."""
