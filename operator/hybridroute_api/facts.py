"""Names of the facts that replicas put into their heartbeats, for those that read them: metrics and status.

Values are text. Counters count from the replica's start. A name that ends in a dot is followed by an upstream's name.
"""

__all__ = [
    "BREAKER_CAUSE",
    "BREAKER_OPENED",
    "BREAKER_STATE",
    "ENGINE_CACHE_USE",
    "ENGINE_RUNNING",
    "ENGINE_WAITING",
    "HEDGES",
    "JOURNAL_ERRORS",
    "LLM_READY_REPLICAS",
    "MODEL_DIGEST",
    "RETRY_DEPOSITS",
    "RETRY_EXTRA_ATTEMPTS",
    "RETRY_REFUSALS",
    "RETRY_TOKENS",
    "SLM_READY_REPLICAS",
]

JOURNAL_ERRORS = "journal_errors"
"""Counter: failed writes and refused lines."""
MODEL_DIGEST = "model_digest"
"""Which weights an SLM replica serves: `sha256:` and the file's digest."""
BREAKER_STATE = "upstream."
"""`closed`, `open` or `half_open`."""
BREAKER_CAUSE = "breaker_cause."
"""Why it is not closed, in words; absent while it is."""
BREAKER_OPENED = "breaker_opened."
"""Counter: how often the breaker opened."""
RETRY_TOKENS = "retry_tokens"
"""In the replica's bucket now."""
RETRY_REFUSALS = "retry_refusals"
"""Counter: requests that would have been tried again, had there been a token."""
RETRY_EXTRA_ATTEMPTS = "retry_extra_attempts"
"""Counter: attempts that were paid with a token."""
RETRY_DEPOSITS = "retry_deposits"
"""Counter: attempts that got through and filled the bucket."""
HEDGES = "hedges"
"""Counter: attempts that were sent beside a slow one."""
SLM_READY_REPLICAS = "slm_ready_replicas"
"""SLM replicas that the router finds ready."""
LLM_READY_REPLICAS = "llm_ready_replicas"
"""The same of the llm-proxy's."""
ENGINE_RUNNING = "engine_running"
"""Sequences that the replica's engine generates now."""
ENGINE_WAITING = "engine_waiting"
"""Sequences that wait in the engine for a place in its batch."""
ENGINE_CACHE_USE = "engine_cache_use"
"""Share of the engine's key-value cache that is taken, 0 to 1; only from engines that tell."""
