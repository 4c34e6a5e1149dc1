"""A scripted OpenAI-compatible upstream that is fast enough to measure gateways against, in a process of its own.

A raw asyncio protocol on uvloop, no framework and no parsing of JSON: more than 20,000 requests/s on one core. Three
answers, chosen by words in the body: a completion; with `"stream":true` 64 chunks, each written in a turn of its own of
the loop so that a gateway has as many to read; with `paced` in the prompt as well, the chunks come `PACE_SECONDS` apart
and each carries the monotonic time at which it was written. The outage lab's `provider` counts and fails; this one does
not.
By hand: `python -m benchmarks.fast_upstream 9001`.
"""

import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import uvloop
from benchmarks.provider import HOST, free_port

__all__ = ["CHUNKS", "PACE_SECONDS", "RunningUpstream", "running_upstream"]

CHUNKS: Final = 64
"""Content chunks of a stream; role, finish, usage and `[DONE]` come on top."""
PACE_SECONDS: Final = 0.005
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STREAMED: Final = re.compile(rb'"stream": ?true')
_WITH_USAGE: Final = re.compile(rb'"include_usage": ?true')
_USAGE: Final = {"prompt_tokens": 20, "completion_tokens": CHUNKS, "total_tokens": 20 + CHUNKS}


def _completion() -> bytes:
    message = {"role": "assistant", "content": "Hello there, how can I help you today?"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    base = {"id": "chatcmpl-scripted", "object": "chat.completion", "created": 1, "model": "mock"}
    body = json.dumps({**base, "choices": [choice], "usage": _USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _event(delta: dict[str, str], finish: str | None = None, **more: Any) -> bytes:
    choices = [] if more else [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 1, "model": "mock"}
    return _chunk(b"data: " + json.dumps({**base, "choices": choices, **more}).encode() + b"\n\n")


_COMPLETION: Final = _completion()
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
)
_ROLE: Final = _event({"role": "assistant", "content": ""})
_WORD: Final = _event({"content": "word "})
_STOP: Final = _event({}, "stop")
_LAST: Final = _event({}, usage=_USAGE)
_DONE: Final = _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class FastProtocol(asyncio.Protocol):
    """One connection; requests come one after the other."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: Any) -> None:  # uvloop's transport is no subclass of asyncio's
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end + 2)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            body, self._received = self._received[end + 4 : whole], self._received[whole:]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        if _STREAMED.search(body) is None:
            self._transport.write(_COMPLETION)
            return
        pieces = [_STREAM_HEAD + _ROLE, *[_WORD] * CHUNKS, _STOP]
        if _WITH_USAGE.search(body) is not None:
            pieces.append(_LAST)
        pieces.append(_DONE)
        self._write_next(iter(pieces), PACE_SECONDS if b"paced" in body else 0.0)

    def _write_next(self, pieces: Any, pace_seconds: float) -> None:
        piece = next(pieces, None)
        if piece is None or self._transport.is_closing():
            return
        if pace_seconds and piece is _WORD:
            self._transport.write(_event({"content": f"{time.monotonic_ns()} "}))
            self._loop.call_later(pace_seconds, self._write_next, pieces, pace_seconds)
        else:
            self._transport.write(piece)
            self._loop.call_soon(self._write_next, pieces, pace_seconds)


class RunningUpstream:
    """A running upstream, seen from the benchmark."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.base_url = f"http://{HOST}:{port}/v1"
        self.process = process


@asynccontextmanager
async def running_upstream(log: Path) -> AsyncIterator[RunningUpstream]:
    """Start an upstream in a process of its own, and end that process."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.fast_upstream", str(port)]
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=output, cwd=Path(__file__).parents[1]
        )
    try:
        async with asyncio.timeout(30):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection(HOST, port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield RunningUpstream(port, psutil.Process(process.pid))
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def serve(port: int) -> None:
    """Serve until the process is ended."""
    server = await asyncio.get_running_loop().create_server(FastProtocol, HOST, port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1])))
