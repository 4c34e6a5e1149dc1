"""Follows the live policy's ConfigMap through the Kubernetes API, into the file that the keeper watches.

A mounted ConfigMap takes one to two minutes to change; this takes two seconds. It copies and judges nothing: whether
the document is good is for `live` to say. Not used on one machine.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from hybridroute_serve.keeper.api_server import ApiConnection, ApiTroubleError, ConfigMap

__all__ = ["ConfigMapFollower"]

_LOG = logging.getLogger(__name__)

POLL_SECONDS = 2.0


class ConfigMapFollower:
    """Copies one entry of a ConfigMap to a file whenever it changes."""

    def __init__(
        self,
        connection: ApiConnection,
        config_map: str,
        target: Path,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`config_map` is `<namespace>/<name>/<entry>`."""
        namespace, name, self._entry = config_map.split("/")
        self._config_map = ConfigMap(connection, namespace, name)
        self._target = target
        self._sleep = sleep
        self._version = ""
        self._problem = ""

    async def watch(self) -> None:
        """Look at the ConfigMap for ever."""
        while True:
            await self.refresh()
            await self._sleep(POLL_SECONDS)

    async def refresh(self) -> None:
        """Look once. The file stays as it is while the API server does not answer."""
        try:
            document = await self._config_map.read()
            version, text = document["metadata"]["resourceVersion"], document["data"][self._entry]
            if version != self._version:
                await asyncio.to_thread(_replace, self._target, text)
        except ApiTroubleError as error:
            self._note(str(error))
        except OSError as error:
            self._note(f"not copied: {type(error).__name__}")
        except (KeyError, TypeError) as error:
            self._note(f"not understood: {type(error).__name__} {error}")
        else:
            self._version = version
            self._note("")

    def _note(self, problem: str) -> None:
        if problem and problem != self._problem:
            _LOG.error("live policy was not read from the API server reason=%s", problem)
        self._problem = problem


def _replace(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(target)
