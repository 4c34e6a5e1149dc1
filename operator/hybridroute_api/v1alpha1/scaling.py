"""How many replicas a path has. The same five fields for each path, with defaults of its own."""

from datetime import timedelta

from pydantic import Field

from hybridroute_api.quantities import Duration
from hybridroute_api.v1alpha1.model import Count, SpecModel

__all__ = ["LlmScaling", "RouterScaling", "Scaling", "SlmScaling"]


class Scaling(SpecModel):
    """Bounds and target of one path's replicas."""

    min_replicas: Count = Field(default=1, ge=1, le=1000)
    """Replicas that always run. Range 1 to 1000; default 1, the least that serves without a cold start."""
    max_replicas: Count = Field(default=1, ge=1, le=1000)
    """Replicas at most. Range 1 to 1000, at least `minReplicas`; default 1, because growth costs money and is
    asked for.
    """
    target_ongoing_requests: Count = Field(default=64, ge=1, le=10_000)
    """Requests in flight per replica to aim at; above it the path grows. Range 1 to 10000; default by path.
    """
    upscale_delay: Duration = Field(default=timedelta(seconds=10), ge=timedelta(0), le=timedelta(hours=1))
    """How long the load must stay above the target before replicas are added. Range 0s to 1h; default 10s,
    longer than a burst of a few requests.
    """
    downscale_delay: Duration = Field(default=timedelta(minutes=5), ge=timedelta(0), le=timedelta(hours=24))
    """How long the load must stay below the target before replicas are taken away. Range 0s to 24h; default
    5m, since a start costs more than a few idle minutes.
    """


class SlmScaling(Scaling):
    """Replicas of the small language model."""

    target_ongoing_requests: Count = Field(default=8, ge=1, le=10_000)
    """Requests in flight per replica to aim at; above it the path grows. Range 1 to 10000; default 8, twice
    the default `parallelSequences`, so that a batch is always full.
    """


class LlmScaling(Scaling):
    """Replicas of the proxy to the remote LLM."""

    target_ongoing_requests: Count = Field(default=64, ge=1, le=10_000)
    """Requests in flight per replica to aim at; above it the path grows. Range 1 to 10000; default 64,
    because a replica only waits for the provider.
    """


class RouterScaling(Scaling):
    """Replicas of the router."""

    target_ongoing_requests: Count = Field(default=100, ge=1, le=10_000)
    """Requests in flight per replica to aim at; above it the path grows. Range 1 to 10000; default 100,
    because a decision takes about a millisecond.
    """
