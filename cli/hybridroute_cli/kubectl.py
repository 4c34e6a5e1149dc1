"""kubectl as the commands use it: objects as JSON, and a way to a Service's port.

The person's own kubectl, so that every way of logging in to a cluster works as it does for them. Knows nothing of
routes.
"""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from hybridroute_cli.output import CommandError

__all__ = ["Kubectl"]

_ANSWER_SECONDS: Final = 30.0
_FORWARD_SECONDS: Final = 20.0
_FORWARDED: Final = "Forwarding from 127.0.0.1:"


class Kubectl:
    """Calls of one context and namespace; None means those that kubectl would take. Failures are `CommandError`."""

    def __init__(self, *, namespace: str | None, context: str | None) -> None:
        self._flags = [
            *([f"--namespace={namespace}"] if namespace else []),
            *([f"--context={context}"] if context else []),
        ]

    async def get(self, *what: str) -> dict[str, Any] | None:
        """Return the document of `kubectl get`, or None when there is no such object."""
        arguments = [
            "get",
            *what,
            "--ignore-not-found",
            "--output=json",
            f"--request-timeout={_ANSWER_SECONDS:.0f}s",
        ]
        process = await self._start(*arguments)
        try:
            async with asyncio.timeout(2 * _ANSWER_SECONDS):
                out, said = await process.communicate()
        except TimeoutError:
            raise CommandError(f"kubectl get {' '.join(what)}: no answer from the cluster") from None
        finally:
            await _end(process)
        if process.returncode != 0:
            raise CommandError(f"kubectl get {' '.join(what)}: {said.decode(errors='replace').strip()}")
        document: dict[str, Any] | None = json.loads(out) if out.strip() else None
        return document

    @asynccontextmanager
    async def forward(self, service: str, port: int) -> AsyncIterator[str]:
        """Open a way to a Service's port while the context lasts; yield its base URL on this machine."""
        process = await self._start("port-forward", "--address=127.0.0.1", f"service/{service}", f":{port}")
        try:
            yield await _forwarded_url(process, service)
        finally:
            await _end(process)

    async def _start(self, *arguments: str) -> asyncio.subprocess.Process:
        program = shutil.which("kubectl")
        if program is None:
            raise CommandError("kubectl is not on PATH, and a cluster is reached through it: install it")
        return await asyncio.create_subprocess_exec(
            program,
            *self._flags,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


async def _forwarded_url(process: asyncio.subprocess.Process, service: str) -> str:
    """Wait until kubectl says which port it listens on."""
    assert process.stdout is not None  # noqa: S101 - it was started with pipes
    assert process.stderr is not None  # noqa: S101
    try:
        async with asyncio.timeout(_FORWARD_SECONDS):
            while line := (await process.stdout.readline()).decode(errors="replace"):
                if line.startswith(_FORWARDED):
                    return f"http://127.0.0.1:{line.removeprefix(_FORWARDED).split()[0]}"
            said = (await process.stderr.read()).decode(errors="replace").strip()
    except TimeoutError:
        said = f"not open after {_FORWARD_SECONDS:.0f} s"
    raise CommandError(f"kubectl port-forward service/{service}: {said}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
        await process.wait()
