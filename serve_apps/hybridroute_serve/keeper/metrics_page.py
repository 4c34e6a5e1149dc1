"""Writes docs/metrics.md from the one table: `python -m hybridroute_serve.keeper.metrics_page > docs/metrics.md`."""

import sys

from hybridroute_serve.keeper.metric_table import METRICS, NONE

__all__ = ["render_metrics_page"]

_INTRODUCTION = f"""# Metrics

The keeper exports these at `/keeper/metrics` of the route's port, for a scraper that sends the metrics token
(`Authorization: Bearer …`). On one machine the token is in `secrets/metrics-token` of the route's folder
(`~/.local/state/hybridroute/<route>`), in a cluster in the Secret `<name>-internal` under `metrics-token`, and a
PodMonitor of the route knows it. They are added up in the transaction that stores a record, so they equal the records,
survive restarts and retention, and do not depend on how many replicas there were.
Ray's own metrics stay on Ray's own ports.

`path` is `slm` or `llm`, and `{NONE}` for requests that went to neither; `gate` is the gate that decided, and `{NONE}`
for requests that were refused before a decision. This page is generated (`make docs`); edit `keeper/metric_table.py`.

| metric | type | labels | meaning |
|---|---|---|---|
"""


def render_metrics_page() -> str:
    """Return the page. Pure."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in METRICS
    ]
    buckets = [
        f"Buckets of `{metric.name}`: {', '.join(f'{bound:g}' for bound in metric.bounds)}."
        for metric in METRICS
        if metric.bounds
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n\n" + "\n\n".join(buckets) + "\n"


if __name__ == "__main__":
    sys.stdout.write(render_metrics_page())
