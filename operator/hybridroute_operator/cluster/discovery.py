"""Waits until the API server serves the kinds that are watched.

kopf looks once at its start, and later only where a definition changes. One that was made a moment before, and is not
in the server's list yet, would never be watched.
"""

import asyncio
import logging
from typing import Final

from hybridroute_operator.cluster.api import Api, KindMissingError
from hybridroute_operator.errors import ApiUnavailableError

__all__ = ["wait_for_kinds"]

_LOG = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0


async def wait_for_kinds(
    api: Api, kinds: list[tuple[str, str]], stopping: asyncio.Event, *, seconds: float | None = None
) -> bool:
    """Return whether all kinds, as (`group/version`, plural), were there before `seconds` and `stopping`.

    Raises `ApiForbiddenError`.
    """
    missing: list[tuple[str, str]] = []
    try:
        async with asyncio.timeout(seconds):
            while True:
                found = [kind for kind in kinds if not await _is_served(api, *kind)]
                if not found:
                    return True
                if found != missing:
                    missing = found
                    names = ", ".join(f"{plural}.{version}" for version, plural in missing)
                    _LOG.warning("waiting for the definitions of %s", names)
                try:
                    await asyncio.wait_for(stopping.wait(), _LOOK_SECONDS)
                except TimeoutError:
                    continue
                return False
    except TimeoutError:
        return False


async def _is_served(api: Api, api_version: str, plural: str) -> bool:
    """Ask both lists: a group's own may be there before the group is in the list of groups."""
    try:
        groups = await api.get("/apis") or {}
        resources = await api.get(f"/apis/{api_version}") or {}
    except (KindMissingError, ApiUnavailableError):
        return False
    versions = {version["groupVersion"] for group in groups["groups"] for version in group["versions"]}
    return api_version in versions and any(
        resource["name"] == plural for resource in resources.get("resources", ())
    )
