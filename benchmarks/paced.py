"""One client that reads paced streams and says how late their pieces were.

The upstream writes into each chunk when it was written (`fast_upstream`, on the same machine and so by the same clock);
what lies between that and the client's reading it, less the same for the upstream asked directly, is what a gateway
adds to a chunk. It blocks, so that no event loop of its own stands between a chunk's arrival and the reading of the
clock: run it in a thread.
"""

import http.client
import json
import re
import time
from dataclasses import dataclass
from statistics import median
from typing import Final
from urllib.parse import urlsplit

from benchmarks.fast_upstream import CHUNKS
from benchmarks.peers import Entry

__all__ = ["PacedResult", "read_paced"]

WRITTEN: Final = re.compile(rb'"content": ?"(\d+) ')
TIMEOUT_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class PacedResult:
    """Several streams, one after the other."""

    first_ms: float
    """From sending the request to the first chunk with content, median."""
    chunk_ms: float
    """From writing a chunk to reading it, median of all."""


def read_paced(entry: Entry, streams: int) -> PacedResult:
    """Read streams over one connection. Raises `OSError` and `ValueError` for an answer that is none."""
    address = urlsplit(entry.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=TIMEOUT_SECONDS)
    message = {"role": "user", "content": "paced"}
    body = json.dumps({"model": entry.model, "messages": [message], "stream": True})
    headers = {"Content-Type": "application/json", **entry.headers}
    firsts: list[float] = []
    chunks: list[float] = []
    try:
        for _ in range(streams):
            sent_at = time.monotonic_ns()
            connection.request("POST", address.path, body, headers)
            answer = connection.getresponse()
            seen = 0
            while line := answer.readline():
                read_at = time.monotonic_ns()
                written = WRITTEN.search(line)
                if written is None:
                    continue
                if not seen:
                    firsts.append((read_at - sent_at) / 1e6)
                seen += 1
                chunks.append((read_at - int(written[1])) / 1e6)
            if seen != CHUNKS:
                raise ValueError(f"a stream had {seen} chunks of {CHUNKS}, status {answer.status}")
    except http.client.HTTPException as error:
        raise ValueError(f"no answer: {type(error).__name__}") from error
    finally:
        connection.close()
    return PacedResult(median(firsts), median(chunks))
