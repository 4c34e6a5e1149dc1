"""The clients' pod: asks both paths without a pause, streams and not, and prints a line of JSON for each request.

`traffic.py URL` is one client of each sort, `traffic.py URL KIND CLIENTS` so many that all ask for one path. Nothing is
tried again here, so that every failure is seen. It ends when a file called /tmp/stop appears. Runs in the operator's
image.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp

STOP = Path("/tmp/stop")
PROMPTS = {"local": "I want to lock my current account right away", "remote": "Write a sonnet about the sea."}
PAUSE_SECONDS = 0.1
DEADLINE = aiohttp.ClientTimeout(total=60)


async def ask(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return how one request went; `error` is empty for an answer that is whole."""
    found: dict[str, Any] = {"error": ""}
    try:
        async with session.post(f"{url}/chat/completions", json=body) as answer:
            names = ("path", "gate", "request-id", "cost-usd")
            found |= {name: answer.headers.get(f"x-hybridroute-{name}") for name in names}
            text = (await answer.read()).decode()
            whole = "data: [DONE]" in text if body["stream"] else '"choices"' in text
            if answer.status != 200 or not whole:
                found["error"] = f"{answer.status}: {text[-300:]}"
    except (aiohttp.ClientError, TimeoutError) as error:
        found["error"] = f"{type(error).__name__}: {error}"
    return found


async def work(url: str, kind: str, *, stream: bool) -> None:
    messages = [{"role": "user", "content": PROMPTS[kind]}]
    body = {"model": "hybridroute", "messages": messages, "max_tokens": 4, "stream": stream}
    while not STOP.exists():  # noqa: ASYNC240 - a file in the pod's own memory
        async with aiohttp.ClientSession(timeout=DEADLINE) as session:
            await work_until_failure(session, url, kind, body)


async def work_until_failure(
    session: aiohttp.ClientSession, url: str, kind: str, body: dict[str, Any]
) -> None:
    """Ask on one connection. While a Service leads nowhere, a new one may reach a stranger outside the cluster, who
    answers for as long as it is kept.
    """
    failed = False
    while not failed and not STOP.exists():  # noqa: ASYNC240 - a file in the pod's own memory
        began, at = time.time(), time.monotonic()
        found = await ask(session, url, body)
        about = {
            "kind": kind,
            "stream": body["stream"],
            "began": began,
            "ended": began + time.monotonic() - at,
        }
        sys.stdout.write(json.dumps(about | found) + "\n")
        sys.stdout.flush()
        failed = bool(found["error"])
        await asyncio.sleep(PAUSE_SECONDS)


async def main(url: str, kind: str = "", clients: str = "0") -> None:
    each = [(kind, bool(number % 2)) for number in range(int(clients))]
    each = each or [(kind, stream) for kind in PROMPTS for stream in (False, True)]
    await asyncio.gather(*(work(url, kind, stream=stream) for kind, stream in each))


asyncio.run(main(*sys.argv[1:]))
