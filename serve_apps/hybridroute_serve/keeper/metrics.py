"""The totals as Prometheus metrics: what `/metrics` says equals what was stored, across restarts.

No counters are kept in memory; a scrape reads the totals. What is counted by route alone is there from the start, and
every outcome of a path and gate from their first request: `rate()` does not see a series begin, so that a failure that
makes its own is one that no alert hears of. See `metric_table` for names and labels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from hybridroute_api.vocabulary import Outcome
from hybridroute_serve.keeper.metric_table import METRICS, REQUESTS, Metric, MetricKind
from hybridroute_serve.keeper.tally import INFINITY, TotalKey, bucket_name, sum_name

__all__ = ["Gauges", "expose_metrics"]

Gauges = Mapping[Metric, Mapping[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot(Collector):
    totals: Mapping[TotalKey, int]
    gauges: Gauges

    def collect(self) -> Iterator[Family]:
        for metric in METRICS:
            match metric.kind:
                case MetricKind.COUNTER:
                    yield _counter(metric, self.totals)
                case MetricKind.HISTOGRAM:
                    yield _histogram(metric, self.totals)
                case MetricKind.GAUGE:
                    family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
                    for labels, value in self.gauges.get(metric, {}).items():
                        family.add_metric(labels, value)
                    yield family


def expose_metrics(
    route: str, totals: Mapping[TotalKey, int], gauges: Gauges, accept: str = ""
) -> tuple[bytes, str]:
    """Encode a scrape's answer in the format it accepts; returns body and content type."""
    registry = CollectorRegistry()
    registry.register(_Snapshot({**dict.fromkeys(_expect(route, totals), 0), **totals}, gauges))
    encode: Callable[[CollectorRegistry], bytes]
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def _expect(route: str, totals: Mapping[TotalKey, int]) -> Iterator[TotalKey]:
    """Yield the totals that are exposed whether something was counted or not."""
    for metric in METRICS:
        if metric.kind is MetricKind.COUNTER and metric.labels == ("route",):
            yield metric.name, (route,)
    for name, labels in totals:
        if name == REQUESTS.name:
            for outcome in Outcome:
                yield name, (*labels[:-1], outcome)


def _counter(metric: Metric, totals: Mapping[TotalKey, int]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for (name, labels), value in sorted(totals.items()):
        if name == metric.name:
            family.add_metric(labels, value / metric.scale)
    return family


def _histogram(metric: Metric, totals: Mapping[TotalKey, int]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    series: dict[tuple[str, ...], dict[str, int]] = defaultdict(dict)
    for (name, labels), value in totals.items():
        if name == bucket_name(metric):
            series[labels[:-1]][labels[-1]] = value
    for labels, counts in sorted(series.items()):
        cumulative = 0
        buckets: list[tuple[str, float]] = []
        for bound in (*map(str, metric.bounds), INFINITY):
            cumulative += counts.get(bound, 0)
            buckets.append((bound, cumulative))
        total = totals.get((sum_name(metric), labels), 0)
        family.add_metric(labels, buckets, total / metric.scale)
    return family
