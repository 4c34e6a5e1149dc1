"""Lets one of two attempts answer a client: the first that has an answer. Used for hedges, so unary answers only."""

import asyncio
from collections.abc import Iterable, MutableMapping
from typing import Any

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.upstream.failures import AttemptFailure
from hybridroute_serve.wire.asgi import Send

__all__ = ["AnswerRace"]


class AnswerRace:
    """Hands out one `send` to each contender; the first that is used is the client's."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._winner: object | None = None

    def contender(self) -> Send:
        """Return a `send` of its own for an attempt."""
        me = object()

        async def send(message: MutableMapping[str, Any]) -> None:
            if self._winner is None:
                self._winner = me
            if self._winner is not me:
                await asyncio.Event().wait()  # too late: whoever runs the race cancels it
            await self._send(message)

        return send

    async def finish(self, attempts: Iterable[asyncio.Task[AttemptFailure | None]]) -> AttemptFailure | None:
        """Return None once one of them has answered, else the failure that nothing under way can make good."""
        pending = set(attempts)
        failure: AttemptFailure | None = None
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            ended = [task.result() for task in done]
            if None in ended:
                return None
            failure = ended[-1]
            # What one upstream finds wrong with the request the other will, unless it is answering already.
            if self._winner is None and any(one and one.outcome is Outcome.CLIENT_ERROR for one in ended):
                return failure
        return failure
