"""Replays sessions of labelled rows through the drift charts, thousands of streams at a time.

The steps are the run time's own (`hybridroute_serve.routing.drift.charts`); only the walk over streams is written
for many at once. A session draws a label by its share and then rows of that label: six queries in a row about one
thing make false alarms fifty times as frequent as single ones.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hybridroute_serve.routing.drift.charts import REPEAT_WEIGHT, cluster_steps, rank_steps

__all__ = [
    "Alarms",
    "Delays",
    "Excursions",
    "SessionRows",
    "StepRows",
    "count_alarms",
    "measure_delays",
    "record_excursions",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]

_WORTH_KEEPING = 1.0  # lower peaks are never near a limit
_SETTLING = 200  # requests after which a chart has forgotten that it began at zero


@dataclass(frozen=True, slots=True)
class StepRows:
    """What each row adds to each chart."""

    ranks: Floats
    """One column a chart of ranks."""
    cluster: Rows
    topic: Rows
    own: Floats
    """What a row of a cluster adds to that cluster's chart."""
    other: float
    recent: int
    labels: Rows
    """What a session keeps to."""

    @classmethod
    def build(
        cls,
        columns: list[tuple[Floats, Floats, bool]],
        *,
        cluster: Rows,
        topic: Rows,
        shares: Floats,
        recent: int,
        labels: Rows,
    ) -> "StepRows":
        """Turn scores into steps. A column is scores, baseline quantiles, and whether high scores are the odd ones."""
        steps = rank_steps()
        ranks = [
            (steps[::-1] if high else steps)[np.searchsorted(quantiles, scores)]
            for scores, quantiles, high in columns
        ]
        own, other = cluster_steps(shares)
        return cls(np.stack(ranks, axis=1), cluster, topic, own, other, recent, labels)

    def take(self, rows: Rows) -> "StepRows":
        """Return some rows, in the given order."""
        return replace(
            self,
            ranks=self.ranks[rows],
            cluster=self.cluster[rows],
            topic=self.topic[rows],
            labels=self.labels[rows],
        )

    def joined(self, other: "StepRows") -> "StepRows":
        """Return these rows and then others."""
        return replace(
            self,
            ranks=np.concatenate([self.ranks, other.ranks]),
            cluster=np.concatenate([self.cluster, other.cluster]),
            topic=np.concatenate([self.topic, other.topic]),
            labels=np.concatenate([self.labels, other.labels]),
        )


class SessionRows:
    """Draws rows in sessions of one label, for many streams at once."""

    def __init__(self, labels: Rows, length: int, streams: int, rng: np.random.Generator) -> None:
        self._order = np.argsort(labels, kind="stable")
        counts = np.bincount(labels)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._starts, self._counts = starts[labels], counts[labels]
        self._length = length
        self._rng = rng
        self._anchor = rng.integers(labels.size, size=streams)
        self._left = rng.integers(1, length + 1, size=streams)

    def draw(self) -> tuple[Rows, NDArray[np.bool_]]:
        """Return one row a stream, and which streams have just begun a session."""
        begun = self._left == 0
        fresh = self._rng.integers(self._starts.size, size=begun.size)
        self._anchor = np.where(begun, fresh, self._anchor)
        self._left = np.where(begun, self._length, self._left) - 1
        offset = (self._rng.random(begun.size) * self._counts.take(self._anchor)).astype(np.intp)
        return self._order.take(self._starts.take(self._anchor) + offset), begun


class _Walk:
    """The charts of many streams."""

    def __init__(self, rows: StepRows, streams: int) -> None:
        self.ranks = np.zeros((streams, rows.ranks.shape[1]))
        self.clusters = np.zeros((streams, rows.own.size))
        self._recent = np.full((streams, rows.recent), -1, dtype=np.intp)
        self._streams = np.arange(streams)
        self._steps = 0

    def step(self, rows: StepRows, drawn: Rows) -> None:
        topic = rows.topic.take(drawn)
        repeated = (self._recent == topic[:, None]).any(axis=1)
        self._recent[:, self._steps % rows.recent] = topic
        self._steps += 1
        weight = np.where(repeated, REPEAT_WEIGHT, 1.0)
        steps = rows.ranks.take(drawn, axis=0)
        steps *= weight[:, None]
        self.ranks += steps
        np.maximum(self.ranks, 0.0, out=self.ranks)
        self.clusters += (rows.other * weight)[:, None]
        cluster = rows.cluster.take(drawn)
        self.clusters[self._streams, cluster] += (rows.own[cluster] - rows.other) * weight
        np.maximum(self.clusters, 0.0, out=self.clusters)

    def levels(self) -> Floats:
        """Return one column a chart, the highest cluster last."""
        return np.concatenate([self.ranks, self.clusters.max(axis=1, keepdims=True)], axis=1)

    def reset(self, which: NDArray[np.bool_]) -> None:
        self.ranks[which] = 0.0
        self.clusters[which] = 0.0


@dataclass(frozen=True, slots=True)
class Excursions:
    """How high the charts climbed between two returns to zero."""

    peaks: list[Floats]
    """By chart, the clusters' last."""
    requests: int


def record_excursions(
    rows: StepRows, *, session_length: int, streams: int, steps: int, rng: np.random.Generator
) -> Excursions:
    """Replay undrifted sessions and return the peaks of all excursions, also of those that were still under way."""
    sessions = SessionRows(rows.labels, session_length, streams, rng)
    walk = _Walk(rows, streams)
    ranks_peak, clusters_peak = np.zeros_like(walk.ranks), np.zeros_like(walk.clusters)
    charts = walk.ranks.shape[1]
    peaks: list[list[Floats]] = [[] for _ in range(charts + 1)]
    for _ in range(steps):
        drawn, _ = sessions.draw()
        walk.step(rows, drawn)
        ranks_up, clusters_up = walk.ranks > 0.0, walk.clusters > 0.0
        ended = (ranks_peak > _WORTH_KEEPING) & ~ranks_up
        for chart in range(charts):
            peaks[chart].append(ranks_peak[ended[:, chart], chart])
        peaks[charts].append(clusters_peak[(clusters_peak > _WORTH_KEEPING) & ~clusters_up])
        # In place, and zero where a chart is: a quarter of the time of choosing into new arrays.
        np.maximum(ranks_peak, walk.ranks, out=ranks_peak)
        ranks_peak *= ranks_up
        np.maximum(clusters_peak, walk.clusters, out=clusters_peak)
        clusters_peak *= clusters_up
    for chart in range(charts):
        peaks[chart].append(ranks_peak[ranks_peak[:, chart] > _WORTH_KEEPING, chart])
    peaks[charts].append(clusters_peak[clusters_peak > _WORTH_KEEPING])
    return Excursions([np.concatenate(parts) for parts in peaks], streams * steps)


@dataclass(frozen=True, slots=True)
class Alarms:
    """How often the charts rang."""

    by_chart: Floats
    any_chart: int


def count_alarms(
    rows: StepRows,
    limits: Floats,
    *,
    session_length: int,
    streams: int,
    steps: int,
    rng: np.random.Generator,
) -> Alarms:
    """Replay undrifted sessions and count alarms. After one, all charts of its stream start again."""
    sessions = SessionRows(rows.labels, session_length, streams, rng)
    walk = _Walk(rows, streams)
    alarms = np.zeros(limits.size)
    any_chart = 0
    for _ in range(steps):
        drawn, _ = sessions.draw()
        walk.step(rows, drawn)
        over = walk.levels() >= limits
        rang: NDArray[np.bool_] = np.asarray(over.any(axis=1))
        if rang.any():
            alarms += over.sum(axis=0)
            any_chart += int(rang.sum())
            walk.reset(rang)
    return Alarms(alarms, any_chart)


@dataclass(frozen=True, slots=True)
class Delays:
    """Requests from the first injected session to the alarm."""

    mean: float
    p95: float
    missed: float
    """Share of streams without an alarm within the horizon; they count with the horizon's length."""
    by_stream: Floats
    """One number a stream: replays with equal random numbers pair up."""


def measure_delays(
    base: StepRows,
    shift: StepRows,
    limits: Floats,
    *,
    rate: float,
    session_length: int,
    streams: int,
    horizon: int,
    rng: np.random.Generator,
) -> Delays:
    """Replay undrifted sessions until the charts have settled, then inject a share of new sessions."""
    known = SessionRows(base.labels, session_length, streams, rng)
    new = SessionRows(shift.labels, session_length, streams, rng)
    rows = base.joined(shift)
    walk = _Walk(base, streams)
    for _ in range(_SETTLING):
        drawn, _ = known.draw()
        walk.step(base, drawn)
        walk.reset(_any_over(walk.levels(), limits))
    delay = np.full(streams, horizon)
    injected = np.zeros(streams, dtype=np.bool_)
    waiting = np.ones(streams, dtype=np.bool_)
    for step in range(1, horizon + 1):
        drawn, begun = known.draw()
        other, _ = new.draw()
        injected = np.where(begun, rng.random(streams) < rate, injected)
        walk.step(rows, np.where(injected, other + base.labels.size, drawn))
        rang = waiting & _any_over(walk.levels(), limits)
        delay[rang] = step
        waiting &= ~rang
        if not waiting.any():
            break
    by_stream = delay.astype(np.float64)
    return Delays(float(delay.mean()), float(np.percentile(delay, 95)), float(waiting.mean()), by_stream)


def _any_over(levels: Floats, limits: Floats) -> NDArray[np.bool_]:
    return np.asarray((levels >= limits).any(axis=1))
