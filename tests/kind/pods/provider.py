"""The provider's pod: OpenAI-compatible answers of eight words, and an account of who asked.

Runs in the operator's image.
"""

import asyncio
import json
from collections import Counter
from typing import Any

from aiohttp import web

WORDS = ("The", " remote", " model", " says", " that", " all", " is", " well.")
WORD_SECONDS = 0.02
SEEN: Counter[str] = Counter()


async def complete(request: web.Request) -> web.StreamResponse:
    SEEN[request.headers.get("authorization", "")] += 1
    body = await request.json()
    asked = sum(len(str(message["content"]).split()) for message in body["messages"])
    usage = {"prompt_tokens": asked, "completion_tokens": len(WORDS), "total_tokens": asked + len(WORDS)}
    about = {"id": "chatcmpl-remote", "created": 1, "model": body["model"]}
    if not body.get("stream"):
        await asyncio.sleep(len(WORDS) * WORD_SECONDS)
        choice = {"message": {"role": "assistant", "content": "".join(WORDS)}, "finish_reason": "stop"}
        document = about | {"object": "chat.completion", "usage": usage, "choices": [{"index": 0} | choice]}
        return web.json_response(document)
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = about | {"object": "chat.completion.chunk", "choices": choices} | more
        await answer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    for word in WORDS:
        await asyncio.sleep(WORD_SECONDS)
        await send([{"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}])
    await send([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if (body.get("stream_options") or {}).get("include_usage"):
        await send([], usage=usage)
    await answer.write(b"data: [DONE]\n\n")
    return answer


async def seen(_: web.Request) -> web.Response:
    return web.json_response(SEEN)


async def health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


app = web.Application(client_max_size=64 << 20)
app.add_routes(
    [web.post("/v1/chat/completions", complete), web.get("/seen", seen), web.get("/healthz", health)]
)
web.run_app(app, port=8000, print=None)
