"""What a Prometheus server scrapes equals the records."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from hybridroute_api.records import Batch, CascadeCheck, ReplicaHeartbeat
from hybridroute_api.vocabulary import CascadeVerdict, Gate, Outcome, PathName
from hybridroute_serve.engines.engine import EngineSignals
from hybridroute_serve.keeper.documents import gauge_state
from hybridroute_serve.keeper.metric_table import METRICS, MetricKind
from hybridroute_serve.keeper.metrics import expose_metrics
from hybridroute_serve.keeper.metrics_page import render_metrics_page
from hybridroute_serve.keeper.reads import Reads
from hybridroute_serve.keeper.store import Store
from hybridroute_serve.slm.signals import signal_facts
from support.policies import a_policy
from support.reports import a_record, an_attempt


def _proxy_beat(
    replica: str, at: float, state: str, *, opened: int, refusals: int, extra: int, hedges: int
) -> ReplicaHeartbeat:
    told = {
        "upstream.primary": state,
        "breaker_opened.primary": str(opened),
        "retry_refusals": str(refusals),
        "retry_extra_attempts": str(extra),
        "hedges": str(hedges),
    }
    return ReplicaHeartbeat(replica, "llm-proxy", 0.0, at, facts=told)


def _engine_beat(replica: str, *, running: int, waiting: int, cache_use: float) -> ReplicaHeartbeat:
    load = EngineSignals(running=running, waiting=waiting, cache_use=cache_use)
    return ReplicaHeartbeat(replica, "slm", 0.0, 0.0, facts=signal_facts(load))


_POLICY = a_policy()
_RECORDS = [
    a_record("r1", total_seconds=0.004, first_byte_seconds=0.003),
    a_record("r2", total_seconds=0.25, first_byte_seconds=0.1),
    a_record("r3", path=PathName.LLM, gate=Gate.SCOPE, total_seconds=500.0, first_byte_seconds=None),
    a_record("r4", path=None, gate=None, outcome=Outcome.CLIENT_ERROR),
]
_ATTEMPTS = [
    an_attempt("r1", path=PathName.SLM, upstream="slm", model="small", busy_seconds=3.6, cost_nano_usd=0),
    an_attempt("r2", path=PathName.SLM, upstream="slm", model="small", busy_seconds=7.2, cost_nano_usd=0),
    an_attempt("r3", outcome=Outcome.TIMEOUT, cost_nano_usd=0),
    an_attempt("r3", 2, upstream="second", gate=Gate.SCOPE, cost_nano_usd=123_456_789),
]

_BEATS = [
    _proxy_beat("proxy-1", 1.0, "closed", opened=1, refusals=0, extra=3, hedges=0),
    _proxy_beat("proxy-1", 3.0, "open", opened=2, refusals=4, extra=5, hedges=1),
    _proxy_beat("proxy-1", 2.0, "closed", opened=1, refusals=0, extra=3, hedges=0),
    _proxy_beat("proxy-1", 4.0, "open", opened=2, refusals=4, extra=5, hedges=1),
    # Its upstream has moved, and its new breaker begins to count.
    _proxy_beat("proxy-1", 5.0, "open", opened=1, refusals=4, extra=5, hedges=1),
    _proxy_beat("proxy-2", 5.0, "half_open", opened=10, refusals=1, extra=0, hedges=0),
    _engine_beat("slm-2", running=3, waiting=1, cache_use=0.25),
    _engine_beat("slm-3", running=4, waiting=0, cache_use=0.5),
]


def _scrape(store: Store, reads: Reads, accept: str = "") -> str:
    store.apply_batches(
        [
            Batch(records=_RECORDS, attempts=_ATTEMPTS),
            Batch(records=_RECORDS[:2], heartbeats=[ReplicaHeartbeat("slm-1", "slm", 0.0, 46.8, 10.8)]),
            Batch(heartbeats=_BEATS),
        ],
        _POLICY,
    )
    gauges = gauge_state(
        route="support",
        epoch=store.epoch,
        live=_POLICY,
        live_error=None,
        replicas=reads.read_replicas(),
        now=100_001.0,
    )
    return expose_metrics("support", reads.read_totals(), gauges, accept)[0].decode()


_Parse = Callable[[str], Iterator[Metric]]
# Neither parser says what it yields.
_parse = cast("_Parse", text_string_to_metric_families)
_parse_openmetrics = cast("_Parse", openmetrics_families)


def _families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in _parse(text)}


def _samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in _families(text).values()
        for sample in family.samples
    }


def _value(text: str, name: str, **labels: str) -> float:
    return _samples(text)[name, tuple(sorted({"route": "support", **labels}.items()))]


def test_what_can_be_counted_is_there_before_it_happens(store: Store, reads: Reads) -> None:
    empty = expose_metrics("support", reads.read_totals(), {})[0].decode()
    for counter in ("retry_extra_attempts", "retry_refused", "hedges"):
        assert _value(empty, f"hybridroute_{counter}_total") == 0
    assert "hybridroute_requests_total{" not in empty
    text = _scrape(store, reads)
    seen = {(r.path or "none", r.gate or "none") for r in _RECORDS}
    for path, gate in seen:
        for outcome in Outcome:
            assert _value(text, "hybridroute_requests_total", path=path, gate=gate, outcome=outcome) >= 0


def test_counters_equal_the_records(store: Store, reads: Reads) -> None:
    text = _scrape(store, reads)
    counted = Counter((r.path or "none", r.gate or "none", str(r.outcome)) for r in _RECORDS)
    for (path, gate, outcome), number in counted.items():
        assert _value(text, "hybridroute_requests_total", path=path, gate=gate, outcome=outcome) == number
    requests = [v for (name, _), v in _samples(text).items() if name == "hybridroute_requests_total"]
    assert sum(requests) == len(_RECORDS)
    timeouts = {"path": "llm", "upstream": "primary", "outcome": "timeout"}
    assert _value(text, "hybridroute_attempts_total", **timeouts) == 1
    cost = "hybridroute_cost_usd_total"
    assert _value(text, cost, path="llm", model="big", gate="scope") == 0.123456789
    hour_usd = _POLICY.slm.machine_hour_nano_usd / 1e9
    small = {"path": "slm", "model": "small", "gate": "confidence"}
    assert _value(text, cost, **small) == pytest.approx(0.003 * hour_usd, abs=1e-12)
    assert _value(text, "hybridroute_slm_idle_usd_total") == pytest.approx(0.01 * hour_usd, abs=1e-12)
    assert _value(text, "hybridroute_tokens_total", kind="prompt", **small) == 80
    assert _value(text, "hybridroute_keeper_batches_total") == 3
    assert _value(text, "hybridroute_keeper_duplicates_total", kind="request") == 2
    assert _value(text, "hybridroute_replicas", app="slm") == 3
    assert _value(text, "hybridroute_live_policy_info", version=_POLICY.version, mode="Hybrid") == 1


def test_the_cascade_is_counted_by_its_verdict_and_its_margins(store: Store, reads: Reads) -> None:
    checks = [
        CascadeCheck(CascadeVerdict.PASSED, 0.6, 0.75, 16),
        CascadeCheck(CascadeVerdict.ESCALATED, 0.6, 0.25, 16),
        CascadeCheck(CascadeVerdict.CAPPED, 0.6, 0.25, 16),
        CascadeCheck(CascadeVerdict.UNSCORED, 0.6, detail="no logprobs"),
    ]
    store.apply_batches(
        [Batch(records=[a_record(f"c{n}", cascade=check) for n, check in enumerate(checks)])], _POLICY
    )
    text = _scrape(store, reads)
    for check in checks:
        assert _value(text, "hybridroute_cascade_total", verdict=check.verdict) == 1
    assert _value(text, "hybridroute_cascade_margin_bucket", le="0.3") == 2
    assert _value(text, "hybridroute_cascade_margin_count") == 3
    assert _value(text, "hybridroute_cascade_margin_sum") == 1.25


def test_what_replicas_count_for_themselves_is_added_up(store: Store, reads: Reads) -> None:
    text = _scrape(store, reads)
    breakers = {
        state: _value(text, "hybridroute_breakers", upstream="primary", state=state)
        for state in ("closed", "open", "half_open")
    }
    assert breakers == {"closed": 0, "open": 1, "half_open": 1}
    assert _value(text, "hybridroute_breaker_opened_total", upstream="primary") == 2 + 1 + 10
    assert _value(text, "hybridroute_retry_refused_total") == 4 + 1
    assert _value(text, "hybridroute_retry_extra_attempts_total") == 5
    assert _value(text, "hybridroute_hedges_total") == 1


def test_the_engines_load_is_added_up_and_the_fullest_cache_shown(store: Store, reads: Reads) -> None:
    text = _scrape(store, reads)
    assert _value(text, "hybridroute_engine_sequences", state="running") == 7
    assert _value(text, "hybridroute_engine_sequences", state="waiting") == 1
    assert _value(text, "hybridroute_engine_cache_use_ratio") == 0.5


def test_histograms_are_cumulative_and_count_the_records(store: Store, reads: Reads) -> None:
    text = _scrape(store, reads)
    labels = {"route": "support", "path": "slm", "gate": "confidence"}
    assert _value(text, "hybridroute_request_seconds_bucket", le="0.005", **labels) == 1
    assert _value(text, "hybridroute_request_seconds_bucket", le="0.1", **labels) == 1
    assert _value(text, "hybridroute_request_seconds_bucket", le="0.25", **labels) == 2
    assert _value(text, "hybridroute_request_seconds_bucket", le="+Inf", **labels) == 2
    assert _value(text, "hybridroute_request_seconds_count", **labels) == 2
    assert _value(text, "hybridroute_request_seconds_sum", **labels) == 0.254
    slow = {"route": "support", "path": "llm", "gate": "scope"}
    assert _value(text, "hybridroute_request_seconds_bucket", le="120.0", **slow) == 0
    assert _value(text, "hybridroute_request_seconds_count", **slow) == 1
    assert ("hybridroute_first_byte_seconds_count", tuple(sorted(slow.items()))) not in _samples(text)


def test_every_metric_has_the_names_and_labels_of_the_table(store: Store, reads: Reads) -> None:
    families = _families(_scrape(store, reads))
    assert len(families) == len(METRICS)
    for metric in METRICS:
        family = families[
            metric.name.removesuffix("_total") if metric.kind is MetricKind.COUNTER else metric.name
        ]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_a_scraper_that_wants_openmetrics_gets_it(store: Store, reads: Reads) -> None:
    text = _scrape(store, reads, accept="application/openmetrics-text; version=1.0.0")
    assert len(list(_parse_openmetrics(text))) == len(METRICS)


def test_the_page_of_metrics_is_the_table() -> None:
    page = Path(__file__).parents[3] / "docs" / "metrics.md"
    assert page.read_text() == render_metrics_page()
