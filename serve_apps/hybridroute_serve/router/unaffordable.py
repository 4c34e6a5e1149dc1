"""What a record says of money that was not there: the llm-proxy's words, the limits, the time of reset. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime

from hybridroute_api.quantities import format_usd
from hybridroute_api.serving import LivePolicy
from hybridroute_api.vocabulary import Header
from hybridroute_serve.auth.clients import Client
from hybridroute_serve.router.path_client import PathFailure
from hybridroute_serve.wire.errors import read_error_message

__all__ = ["say_unaffordable"]


def say_unaffordable(
    failure: PathFailure, kept_headers: Mapping[bytes, bytes], policy: LivePolicy, client: Client | None
) -> str:
    """Return it in one line. The llm-proxy names whose budget it is; the limits of both are given."""
    parts = [(read_error_message(failure.body) or failure.detail).rstrip(".")]
    if policy.budget is not None:
        limit = format_usd(policy.budget.limit_nano_usd)
        parts.append(f"route USD {limit} per {policy.budget.window}")
    if client is not None and client.budget is not None:
        limit = format_usd(client.budget.limit_nano_usd)
        parts.append(f"client {client.name} USD {limit} per {client.budget.window}")
    resets_at = kept_headers.get(Header.RESETS_AT.encode(), b"")
    if resets_at.isdigit():
        parts.append(f"resets at {datetime.fromtimestamp(int(resets_at), UTC):%Y-%m-%dT%H:%M:%SZ}")
    return ", ".join(parts)
