"""Finds what the spec's upstreams point at on this machine: keys in variables and files, or the local stand-in.

An upstream whose key is in `OPENAI_API_KEY` follows `OPENAI_BASE_URL` when that is set, as the OpenAI SDK does. When
none of the route's keys is there, a labelled local stand-in serves instead, so that a route can be tried without a
provider.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hybridroute_api.v1alpha1.llm import UpstreamSpec
from hybridroute_api.v1alpha1.resource import HybridRoute
from hybridroute_render.live import ResolvedUpstream, ResolvedUpstreams

__all__ = ["MissingCredentialsError", "UpstreamSources", "find_hub_token", "find_upstreams"]

_OPENAI_KEY = "OPENAI_API_KEY"
_OPENAI_BASE_URL = "OPENAI_BASE_URL"


class MissingCredentialsError(Exception):
    """Some upstreams have their keys and some do not. The message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class UpstreamSources:
    """Where upstreams really are, and the keys to be kept for them."""

    resolved: ResolvedUpstreams
    secrets: dict[Path, str]
    """File to write → the key. Never printed."""

    @property
    def stand_in(self) -> bool:
        """True when the local stand-in serves."""
        return any(upstream.stand_in for upstream in self.resolved)


def find_upstreams(
    route: HybridRoute, *, route_file: Path, secrets_dir: Path, environ: Mapping[str, str], stand_in_url: str
) -> UpstreamSources:
    """Resolve every upstream of the route.

    Raises `MissingCredentialsError`, and OSError for a key or CA file that cannot be read.
    """
    upstreams = route.spec.llm.upstreams
    missing = [upstream for upstream in upstreams if _is_missing(upstream, environ)]
    if len(missing) == len(upstreams):
        resolved = (ResolvedUpstream(u.name, base_url=stand_in_url, stand_in=True) for u in upstreams)
        return UpstreamSources(tuple(resolved), {})
    if missing:
        names = ", ".join(f"{u.name} ({u.credentials.env or 'a Secret'})" for u in missing if u.credentials)
        raise MissingCredentialsError(
            f"no key for {names}: set the variable, name one as env, or remove the upstream from spec.llm.upstreams"
        )
    secrets: dict[Path, str] = {}
    found = []
    for upstream in upstreams:
        key = _read_key(upstream, route_file.parent, environ)
        credential_file = secrets_dir / f"upstream-{upstream.name}" if key is not None else None
        if credential_file is not None and key is not None:
            secrets[credential_file] = key
        ca_file = (route_file.parent / upstream.ca_bundle).resolve() if upstream.ca_bundle else None
        if ca_file is not None:
            ca_file.read_bytes()
        found.append(
            ResolvedUpstream(
                upstream.name,
                base_url=_base_url(upstream, environ),
                credential_file=str(credential_file) if credential_file else None,
                ca_file=str(ca_file) if ca_file else None,
            )
        )
    return UpstreamSources(tuple(found), secrets)


def find_hub_token(route: HybridRoute, environ: Mapping[str, str]) -> str | None:
    """Return the model hub's access token, None where the route names none. Raises `MissingCredentialsError`."""
    credentials = route.spec.slm.model.credentials
    if credentials is None:
        return None
    token = environ.get(credentials.env) if credentials.env is not None else None
    if not token:
        named = f"set the variable {credentials.env}" if credentials.env else "name a variable as env"
        raise MissingCredentialsError(f"spec.slm.model.credentials: no token for the model hub: {named}")
    return token


def _is_missing(upstream: UpstreamSpec, environ: Mapping[str, str]) -> bool:
    credentials = upstream.credentials
    if credentials is None or credentials.file is not None:
        return False
    if credentials.env is None:
        return True  # a Secret, which no machine outside a cluster has
    if environ.get(credentials.env):
        return False
    # A base URL without a key is a server that needs none, such as a local vLLM.
    return not (credentials.env == _OPENAI_KEY and environ.get(_OPENAI_BASE_URL))


def _base_url(upstream: UpstreamSpec, environ: Mapping[str, str]) -> str:
    follows = upstream.credentials is not None and upstream.credentials.env == _OPENAI_KEY
    return (environ.get(_OPENAI_BASE_URL) if follows else None) or upstream.base_url


def _read_key(upstream: UpstreamSpec, base: Path, environ: Mapping[str, str]) -> str | None:
    credentials = upstream.credentials
    if credentials is None:
        return None
    if credentials.env is not None:
        return environ.get(credentials.env) or None
    assert credentials.file is not None  # noqa: S101 - exactly one is set, by rule
    return (base / credentials.file).read_text().strip()
