"""A keeper in a process of its own that can be killed: `python -m support.keeper_process DIRECTORY PORT`."""

import asyncio
import os
import sys
from pathlib import Path

import aiohttp
import uvicorn

from hybridroute_serve.keeper.app import build_keeper_app
from support.eventually import eventually
from support.keepers import keeper_args

__all__ = ["KeeperProcess"]


class KeeperProcess:
    """Starts and kills it, on one directory and port."""

    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Return when it answers."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.keeper_process", str(self._directory), str(self._port)),
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        async with aiohttp.ClientSession() as session:

            async def is_up() -> bool:
                try:
                    async with session.get(f"{self.url}/healthz") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_up, 60.0)

    async def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None


def _main(directory: Path, port: int) -> None:
    uvicorn.run(build_keeper_app(keeper_args(directory)), port=port, log_config=None, ws="none")


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))
