"""A drift baseline whose charts ring within a few odd requests."""

from hybridroute_serve.routing.artifact.header import DriftBaseline
from hybridroute_serve.routing.drift.charts import LEVELS

__all__ = ["A_BASELINE"]

A_BASELINE = DriftBaseline(
    scope_quantiles=LEVELS,
    confidence_quantiles=LEVELS,
    cluster_shares=(0.5, 0.5),
    limits={"scope": 5.0, "confidence_low": 50.0, "confidence_high": 50.0, "clusters": 80.0},
    session_length=6,
    recent=2,
    rows=1_000,
)
"""Scores are ranks: 0 is the oddest, 0.5 the most usual."""
