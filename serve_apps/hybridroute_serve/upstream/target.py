"""Where one attempt goes and what it may take: a provider of the LLM path, or the SLM's engine on loopback."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from hybridroute_api.serving import TokenPrices, Upstream, UpstreamTimeouts
from hybridroute_api.vocabulary import Api, PathName
from hybridroute_serve.wire.edits import OutputCap

__all__ = ["AttemptTarget", "provider_target"]

_HOSTS_OF_NEW_CAP = ("openai.com", "openai.azure.com")
"""OpenAI's reasoning models refuse `max_tokens`; other servers may not know `max_completion_tokens`."""


@dataclass(frozen=True, slots=True)
class AttemptTarget:
    """One upstream, as the relay needs it."""

    path: PathName
    name: str
    base_url: str
    """Without a trailing slash, with the version segment."""
    model: str
    timeouts: UpstreamTimeouts
    headers: Mapping[str, str] = field(default_factory=dict)
    credential_file: str | None = None
    ca_file: str | None = None
    output_cap: OutputCap | None = None
    prices: TokenPrices | None = None
    """None: attempts are not priced here."""


def provider_target(upstream: Upstream, api: Api) -> AttemptTarget:
    """Make the target of an attempt at a provider."""
    return AttemptTarget(
        path=PathName.LLM,
        name=upstream.name,
        base_url=upstream.base_url.rstrip("/"),
        model=upstream.model,
        timeouts=upstream.timeouts,
        headers=upstream.headers,
        credential_file=upstream.credential_file,
        ca_file=upstream.ca_file,
        output_cap=_output_cap(upstream, api),
        prices=upstream.prices,
    )


def _output_cap(upstream: Upstream, api: Api) -> OutputCap:
    host = urlsplit(upstream.base_url).hostname or ""
    is_openai = any(host == known or host.endswith("." + known) for known in _HOSTS_OF_NEW_CAP)
    if api is Api.CHAT_COMPLETIONS and is_openai:
        return "max_completion_tokens", upstream.max_output_tokens
    return "max_tokens", upstream.max_output_tokens
