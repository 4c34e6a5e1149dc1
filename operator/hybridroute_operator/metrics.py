"""The operator's own Prometheus metrics."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["OperatorMetrics"]


class OperatorMetrics:
    """Rounds, their seconds and outcomes, and calls to the API server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._rounds = Counter(
            "hybridroute_operator_rounds",
            "Rounds of the loop, by outcome: Done, or the reason of the failure.",
            ["outcome"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "hybridroute_operator_round_seconds",
            "Seconds of one round.",
            buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self._calls = Counter(
            "hybridroute_operator_api_calls",
            "Calls to the API server, by verb, resource and status code; 0 means no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self._leading = Gauge(
            "hybridroute_operator_leading",
            "1 while this replica leads, 0 while it waits.",
            registry=self.registry,
        )

    def count_round(self, seconds: float, outcome: str) -> None:
        """Count one round."""
        self._rounds.labels(outcome).inc()
        self._seconds.observe(seconds)

    def count_call(self, verb: str, resource: str, code: int) -> None:
        """Count one call to the API server."""
        self._calls.labels(verb, resource, str(code)).inc()

    def set_leading(self, leading: bool) -> None:
        """Say whether this replica leads."""
        self._leading.set(1 if leading else 0)

    def page(self) -> bytes:
        """Return the page that Prometheus scrapes."""
        return generate_latest(self.registry)
