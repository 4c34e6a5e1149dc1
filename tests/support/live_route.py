"""A route that really runs: started by `hybridroute up` in processes of its own, in a home of its own."""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml

from hybridroute_cli.processes import find_processes, pick_free_ports
from hybridroute_cli.rundir import Run, RunDirectory
from support.routes import merged

__all__ = ["LiveRoute", "example_route", "run_command", "running_route"]

EXAMPLE = Path(__file__).parents[2] / "examples" / "hybridroute.yaml"
LOCAL_PROMPT = "I want to lock my current account right away"
"""One of the example route's own local examples."""
REMOTE_PROMPT = "Write a sonnet about the sea"
LONG_ANSWER: dict[str, Any] = {"max_tokens": 1500, "logit_bias": {"0": -100, "2": -100}}
"""Fields with which SmolLM2 goes on for many seconds: neither of its two end tokens can come, where without them it
ends by itself at random, within a second at times. (`ignore_eos` does not keep llama.cpp's chat from ending.)"""


async def run_command(*arguments: str, environ: Mapping[str, str]) -> tuple[int, str, str]:
    """Run `hybridroute` and return its exit status, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "hybridroute_cli.main",
        *arguments,
        env={**environ, "COLUMNS": "200"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def example_route(changes: dict[str, Any] | None = None) -> str:
    """Return the example route as YAML with changes merged in."""
    return yaml.safe_dump(merged(yaml.safe_load(EXAMPLE.read_text()), changes or {}))


@dataclass
class LiveRoute:
    """One running route and ways to look at it."""

    url: str
    home: Path
    environ: dict[str, str]
    session: aiohttp.ClientSession
    file: Path
    run: Run
    seen: list[str] = field(default_factory=list)

    async def command(self, *arguments: str) -> tuple[int, str, str]:
        return await run_command(*arguments, environ=self.environ)

    async def json(self, *arguments: str) -> Any:
        status, out, err = await self.command(*arguments, "--json")
        assert status == 0, (out, err)
        return json.loads(out)

    async def change(self, changes: dict[str, Any]) -> None:
        """Bring the route up to date with changes of the example, and wait until every replica has the policy."""
        await self.use(example_route(changes))

    async def use(self, text: str) -> None:
        """Bring the route up to date with a file of this text, and wait until every replica has the policy."""
        self.file.write_text(text)
        status, out, err = await self.command("up", "-f", str(self.file), "--json")
        assert status == 0, (out, err)
        version = json.loads(self.directory.live_file.read_text())["version"]

        async def arrived() -> bool:
            state = await self.keeper("/state")
            replicas = [
                r for app in ("router", "llm-proxy") for r in state["replicas"].get(app, []) if r["alive"]
            ]
            return bool(replicas) and all(r["policy_version"] == version for r in replicas)

        await self.until(arrived)

    async def kill_and_start_again(self) -> None:
        """Kill every process of the run, the supervisor included, and bring the route up at the same URL."""
        for process in find_processes(self.run.run_id):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        port = self.url.rpartition(":")[2]
        status, out, err = await self.command(
            "up", "-f", str(self.file), "--detach", "--port", port, "--json"
        )
        assert status == 0, (out, err)
        run = self.directory.read_run()
        assert run is not None
        self.run = run
        assert self.run.url == self.url

    @property
    def directory(self) -> RunDirectory:
        return RunDirectory(self.home, "support")

    async def chat(
        self, prompt: str, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> aiohttp.ClientResponse:
        """Send a chat completion; the caller reads the answer."""
        body = {"model": "hybridroute", "messages": [{"role": "user", "content": prompt}], "max_tokens": 16}
        return await self.session.post(f"{self.url}/v1/chat/completions", json=body | fields, headers=headers)

    async def keeper(self, path: str) -> Any:
        headers = {"x-hybridroute-internal-token": self.directory.read_token()}
        async with self.session.get(f"{self.url}/keeper{path}", headers=headers) as answer:
            return await answer.json() if answer.status == 200 else None

    async def record(self, request_id: str, *, attempts: int | None = None) -> dict[str, Any]:
        """Wait for a request's record (and its attempts)."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            document = await self.keeper(f"/records/{request_id}")
            if document is None or document["record"] is None:
                return False
            if attempts is not None and len(document["attempts"]) < attempts:
                return False
            found.append(document)
            return True

        await self.until(there)
        return found[0]

    async def records_since(self, since: float) -> list[dict[str, Any]]:
        document = await self.keeper(f"/records?limit=1000&since={since}")
        return list(document["records"]) if document else []

    async def until(self, holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if await holds():
                    return
            except (aiohttp.ClientError, TimeoutError):
                pass
            assert time.monotonic() < deadline, f"never came true: {holds.__qualname__}"
            await asyncio.sleep(0.1)

    def processes(self, mark: str) -> list[psutil.Process]:
        """This run's processes whose command line contains a mark."""
        return [p for p in find_processes(self.run.run_id) if mark in " ".join(p.cmdline())]


@asynccontextmanager
async def running_route(
    home: Path, environ: Mapping[str, str], changes: dict[str, Any] | None = None
) -> AsyncIterator[LiveRoute]:
    """Start the example route with changes; stop it and check that nothing is left."""
    file = home / "route.yaml"
    file.write_text(example_route(changes))
    env = {**os.environ, **environ, "HYBRIDROUTE_HOME": str(home)}
    (port,) = pick_free_ports((18000,))
    status, out, err = await run_command(
        "up", "-f", str(file), "--detach", "--port", str(port), "--json", environ=env
    )
    log = home / "support" / "supervisor.log"
    assert status == 0, (out, err, log.read_text()[-4000:] if log.exists() else "")
    directory = RunDirectory(home, "support")
    run = directory.read_run()
    assert run is not None
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        route = LiveRoute(run.url, home, env, session, file, run)
        try:
            yield route
        finally:
            status, out, err = await run_command("down", environ=env)
    assert status == 0, (out, err)
    assert find_processes(run.run_id) == []
    assert find_processes(route.run.run_id) == []
