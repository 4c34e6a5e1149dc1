"""A scripted OpenAI-compatible provider in a process of its own, on loopback, that counts and charges for itself.

A control request on a second port switches how it behaves, so that the data port can refuse everything. The
benchmarks start it with `running_provider`; by hand: `python -m benchmarks.provider --port 9001 --control-port 9002`,
then `curl -d '{"mode": "error"}' http://127.0.0.1:9002/mode`. Not a model: the answer is one word, repeated.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop

__all__ = ["Account", "Attempt", "Bill", "Mode", "ProviderHandle", "Script", "free_port", "running_provider"]

HOST: Final = "127.0.0.1"
MARK: Final = re.compile(rb"request-(\d+)")
"""Stands in a prompt and survives every gateway: it says which client request caused an attempt."""
RETRY_AFTER_SECONDS: Final = 1
TRICKLE_SECONDS: Final = 10.0
TRICKLE_PIECES: Final = 20


class Mode(StrEnum):
    """What the provider does with a request."""

    HEALTHY = "healthy"
    REFUSING = "refusing"
    """Reset as soon as the request is there, as from a crashing process. A closed port could not count attempts."""
    ERROR = "error"
    """500 at once."""
    HANGING = "hanging"
    """Never an answer, until the other side gives up."""
    THROTTLED = "throttled"
    """429 with `Retry-After`."""
    HALF = "half"
    """Half of the requests, drawn at random, get a 500."""
    TRICKLE = "trickle"
    """A good answer, a few bytes at a time."""


@dataclass(frozen=True, slots=True)
class Script:
    """How a healthy answer looks. Every length is drawn from an exponential distribution."""

    answer_seconds: float = 0.02
    tokens_per_second: float = 0.0
    """Generation speed. 0: the whole answer is there after `answer_seconds`."""
    mean_tokens: int = 8
    longest_tokens: int = 4096
    """Where an answer ends by itself when the request has no cap."""
    prompt_tokens: int = 20
    """Counted for every request, whatever its text."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Attempt:
    """One completion request as it came."""

    at: float
    """Monotonic seconds, the same clock in every process of the machine."""
    request: int
    """Number of the client request that caused it, -1 for one that carries none."""


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answer costs, from the moment it was begun and whoever reads it to its end."""

    at: float
    """Monotonic seconds."""
    prompt_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class Account:
    """What came, and what the provider bills."""

    attempts: list[Attempt] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)


class Provider:
    """The provider's state, shared by its connections."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.mode = Mode.HEALTHY
        self.account = Account()
        self._draw = random.Random(script.seed)

    def behaviour(self, *, counted: bool, body: bytes) -> Mode:
        """Count the request and return what to do with it now."""
        if counted:
            mark = MARK.search(body)
            self.account.attempts.append(Attempt(time.monotonic(), int(mark[1]) if mark else -1))
        if self.mode is Mode.HALF:
            return Mode.ERROR if counted and self._draw.random() < 0.5 else Mode.HEALTHY
        return self.mode

    def charge(self, cap: int | None) -> int:
        """Draw an answer's length, bill for it and return it."""
        drawn = round(self._draw.expovariate(1 / self.script.mean_tokens))
        tokens = max(1, min(drawn, self.script.longest_tokens, cap or self.script.longest_tokens))
        self.account.bills.append(Bill(time.monotonic(), self.script.prompt_tokens, tokens))
        return tokens


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    body: bytes


Answer = Callable[[Request, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]
"""Answers one request; True when the connection can be used again."""


async def serve_connection(
    answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer one request after the other until either side has had enough."""
    try:
        while (request := await read_request(reader)) is not None:
            if not await answer(request, reader, writer):
                return
    except (ConnectionError, asyncio.IncompleteReadError):
        pass  # the other side left
    finally:
        writer.close()


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one HTTP/1.1 request; None when the connection was closed between requests."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while size := int(await reader.readline(), 16):
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return Request(method, path, b"".join(pieces))
    return Request(method, path, await reader.readexactly(int(headers.get("content-length", "0"))))


def head(status: int, length: int, extra: str = "", kind: str = "application/json") -> bytes:
    """Return a response's head."""
    return (
        f"HTTP/1.1 {status} Scripted\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}\r\n"
    ).encode()


def json_answer(status: int, document: Any, extra: str = "") -> bytes:
    """Return a whole response."""
    body = json.dumps(document).encode()
    return head(status, len(body), extra) + body


def error_answer(status: int, message: str, extra: str = "") -> bytes:
    """Return an error in OpenAI's shape."""
    return json_answer(status, {"error": {"message": message, "type": "scripted", "code": None}}, extra)


def completion(tokens: int, prompt_tokens: int) -> bytes:
    """Return a chat completion's body."""
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": tokens,
        "total_tokens": prompt_tokens + tokens,
    }
    message = {"role": "assistant", "content": " ".join(["word"] * tokens)}
    return json.dumps(
        {
            "id": "chatcmpl-scripted",
            "object": "chat.completion",
            "created": 1,
            "model": "mock",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": usage,
        }
    ).encode()


def stream_events(tokens: int, prompt_tokens: int, *, with_usage: bool) -> list[bytes]:
    """Return the server-sent events of a streamed answer, a token each."""

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
        return b"data: " + json.dumps({**base, "choices": choices, **more}).encode() + b"\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    events = [event(choice({"role": "assistant", "content": ""}))]
    events += [event(choice({"content": "word "}))] * tokens
    events.append(event(choice({}, "stop")))
    if with_usage:
        total = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens}
        events.append(event([], usage={**total, "total_tokens": prompt_tokens + tokens}))
    return [*events, b"data: [DONE]\n\n"]


def data_port(provider: Provider) -> Answer:
    """Return what answers on the port that gateways know."""

    async def answer(request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        counted = request.method == "POST" and request.path.endswith("/completions")
        mode = provider.behaviour(counted=counted, body=request.body)
        if mode is Mode.REFUSING:
            reset(writer)
            return False
        if mode is Mode.HANGING:
            await reader.read()  # to the end of what the other side sends: until it closes
            return False
        if mode is Mode.ERROR:
            writer.write(error_answer(500, "scripted failure"))
        elif mode is Mode.THROTTLED:
            writer.write(error_answer(429, "scripted limit", f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"))
        elif not counted:
            writer.write(json_answer(200, {"object": "list", "data": [{"id": "mock", "object": "model"}]}))
        else:
            await complete(provider, json.loads(request.body), writer, slowly=mode is Mode.TRICKLE)
        await writer.drain()
        return True

    return answer


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST, so that the other side sees a broken connection and no end of an answer."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def complete(
    provider: Provider, document: dict[str, Any], writer: asyncio.StreamWriter, *, slowly: bool
) -> None:
    """Answer a completion request as the script says."""
    script = provider.script
    tokens = provider.charge(document.get("max_completion_tokens") or document.get("max_tokens"))
    seconds_a_token = 1 / script.tokens_per_second if script.tokens_per_second else 0.0
    await asyncio.sleep(script.answer_seconds)
    if document.get("stream"):
        with_usage = bool((document.get("stream_options") or {}).get("include_usage"))
        writer.write(
            b"HTTP/1.1 200 Scripted\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for piece in stream_events(tokens, script.prompt_tokens, with_usage=with_usage):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            if slowly or seconds_a_token:
                await asyncio.sleep(TRICKLE_SECONDS / TRICKLE_PIECES if slowly else seconds_a_token)
        writer.write(b"0\r\n\r\n")
        return
    await asyncio.sleep(tokens * seconds_a_token)
    body = completion(tokens, script.prompt_tokens)
    writer.write(head(200, len(body)))
    size = -(-len(body) // TRICKLE_PIECES) if slowly else len(body)
    for start in range(0, len(body), size):
        writer.write(body[start : start + size])
        await writer.drain()
        if slowly:
            await asyncio.sleep(TRICKLE_SECONDS / TRICKLE_PIECES)


def control_port(provider: Provider) -> Answer:
    """Return what answers on the port that the benchmark knows."""

    async def answer(request: Request, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if request.path == "/mode":
            provider.mode = Mode(json.loads(request.body)["mode"])
        elif request.path == "/reset":
            provider.account = Account()
        writer.write(json_answer(200, {"mode": provider.mode, "account": asdict(provider.account)}))
        await writer.drain()
        return True

    return answer


async def serve(port: int, control: int, script: Script) -> None:
    """Serve both ports until the process is ended."""
    provider = Provider(script)

    async def listen(number: int, answer: Answer) -> asyncio.Server:
        return await asyncio.start_server(partial(serve_connection, answer), HOST, number, backlog=1024)

    servers = [await listen(port, data_port(provider)), await listen(control, control_port(provider))]
    await asyncio.gather(*(server.serve_forever() for server in servers))


@dataclass(frozen=True, slots=True)
class ProviderHandle:
    """A running provider, seen from the benchmark."""

    base_url: str
    """With the version segment, as gateways want it."""
    control_url: str
    session: aiohttp.ClientSession

    async def set_mode(self, mode: Mode) -> float:
        """Switch the provider; returns the monotonic second at which it is done."""
        async with self.session.post(f"{self.control_url}/mode", json={"mode": mode}) as answer:
            answer.raise_for_status()
        return time.monotonic()

    async def reset(self) -> None:
        """Forget what was counted."""
        async with self.session.post(f"{self.control_url}/reset") as answer:
            answer.raise_for_status()

    async def account(self) -> Account:
        """Return what was counted since the last reset."""
        async with self.session.get(f"{self.control_url}/account") as answer:
            document = (await answer.json())["account"]
        return Account(
            [Attempt(**one) for one in document["attempts"]], [Bill(**one) for one in document["bills"]]
        )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def running_provider(script: Script, log: Path) -> AsyncIterator[ProviderHandle]:
    """Start a provider in a process of its own, and end that process."""
    port, control = free_port(), free_port()
    arguments = ["--port", str(port), "--control-port", str(control), "--script", json.dumps(asdict(script))]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.provider",
            *arguments,
            stdout=output,
            stderr=output,
            cwd=Path(__file__).parents[1],
        )
    async with aiohttp.ClientSession() as session:
        handle = ProviderHandle(f"http://{HOST}:{port}/v1", f"http://{HOST}:{control}", session)
        try:
            async with asyncio.timeout(20):
                while True:
                    with suppress(aiohttp.ClientError):
                        await handle.account()
                        break
                    await asyncio.sleep(0.05)
            yield handle
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9001)
    parser.add_argument("--control-port", type=int, default=9002)
    parser.add_argument("--script", type=json.loads, default={}, help="fields of Script as JSON")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(arguments.port, arguments.control_port, Script(**arguments.script)))


if __name__ == "__main__":
    main()
