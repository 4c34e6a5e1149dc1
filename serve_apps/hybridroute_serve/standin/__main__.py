"""`python -m hybridroute_serve.standin`: the stand-in as a process of its own, for clusters without a provider."""

import argparse

import uvicorn

from hybridroute_api.serving import StandInArgs
from hybridroute_serve.standin.app import build_stand_in_app

if __name__ == "__main__":
    parser = argparse.ArgumentParser("hybridroute-stand-in", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--tokens-per-second", type=float, default=80.0)
    given = parser.parse_args()
    uvicorn.run(
        build_stand_in_app(StandInArgs(tokens_per_second=given.tokens_per_second)),
        host="0.0.0.0",  # noqa: S104 - a pod's address is not known before it runs
        port=given.port,
        log_level="warning",
    )
