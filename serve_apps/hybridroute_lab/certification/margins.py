"""Chooses the cascade's thresholds on rows that were learned from, and counts on fresh ones what they do."""

import math

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from hybridroute_serve.routing.artifact.margins import MarginPoint, MarginTable

__all__ = ["SHARES", "choose_margins", "count_margins"]

Floats = NDArray[np.float64]

SHARES = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
"""Of all requests. A route's `maxShare` uses the next smaller one."""
_POINTS = 20


def choose_margins(thresholds: Floats, confidence: Floats, margins: Floats, tokens: int) -> MarginTable:
    """Return the table of the rows that were learned from, without counts.

    `thresholds`: of confidence, from strict to loose. `margins`: infinite where the engine told none, which no
    cascade escalates.
    """
    places = np.unique(
        np.append(np.linspace(0, thresholds.size - 1, _POINTS).astype(np.intp), thresholds.size - 1)
    )
    points = []
    for threshold in thresholds[places]:
        kept = np.sort(margins[(confidence >= threshold) & np.isfinite(margins)])
        allowed = [int(share * margins.size + 1e-9) for share in SHARES]
        # Fewer than `count` rows lie below the margin of the one in that place.
        found = tuple(float(kept[count]) if count < kept.size else 1.0 for count in allowed)
        points.append(
            MarginPoint(float(threshold), tuple(math.floor(margin * 1e6) / 1e6 for margin in found))
        )
    return MarginTable(tokens, SHARES, tuple(points), rows=int(margins.size))


def count_margins(table: MarginTable, confidence: Floats, regret: Floats, margins: Floats) -> MarginTable:
    """Return the table with what it does to fresh rows."""
    counted = []
    for point in table.points:
        kept = confidence >= point.threshold
        escalated = [kept & (margins < margin) for margin in point.margins]
        counted.append(
            structs.replace(
                point,
                regret=round(float(regret[kept].sum()), 6),
                escalated=tuple(int(rows.sum()) for rows in escalated),
                regret_left=tuple(round(float(regret[kept & ~rows].sum()), 6) for rows in escalated),
            )
        )
    return structs.replace(table, points=tuple(counted), certify=int(margins.size))
