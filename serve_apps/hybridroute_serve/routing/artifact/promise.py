"""The promise in an artifact: certified thresholds for a bound on joint regret. Pure; no statistics here.

Joint regret is P(kept on the SLM and SLM wrong and LLM right). The lab counted it on rows that nothing had
learned from, at a grid of thresholds, and stored the counts with an upper bound a point. The bounds of one
delta hold for all points at once, so the threshold for another `maxRisk` is read off the table and is as honest
as the first.
"""

import msgspec

__all__ = ["CertifiedPoint", "Promise", "PromiseTable"]


class CertifiedPoint(msgspec.Struct, frozen=True):
    """What the certification rows said of one threshold."""

    threshold: float
    """A request is kept when its confidence is at least this."""
    kept: int
    """Certification rows kept at this threshold."""
    regret: float
    """Sum of regret over the kept rows: a count for 0/1 labels."""
    slm_wrong: float
    """Sum of 1 - SLM score over the kept rows: plain error."""
    llm_better: float
    """Sum of LLM score - SLM score over the kept rows: net loss, what escalating all of them had gained."""
    upper: dict[str, float]
    """Upper bound on the joint regret by delta, `{"0.1": 0.048}`."""


class Promise(msgspec.Struct, frozen=True):
    """The answer for one `maxRisk`."""

    threshold: float | None
    """None keeps nothing on the SLM."""
    reason: str
    """A few words with numbers, also when nothing is kept."""
    kept_share: float = 0.0
    """Share of the certification rows that the threshold keeps."""
    point: CertifiedPoint | None = None


class PromiseTable(msgspec.Struct, frozen=True):
    """Points from strict to loose, all certified at once."""

    rows: int
    """Certification rows, repeated prompts among them."""
    method: str
    """The bound, and how many points it covers at once."""
    points: tuple[CertifiedPoint, ...]

    def deltas(self) -> tuple[float, ...]:
        """Return the deltas that bounds are stored for, in ascending order."""
        return tuple(sorted(float(key) for key in self.points[0].upper)) if self.points else ()

    def threshold_for(self, max_risk: float, delta: float) -> Promise:
        """Return the loosest threshold whose joint regret is at most `max_risk` with confidence 1 - `delta`.

        A delta between stored ones uses the next smaller, which promises more.
        """
        usable = [stored for stored in self.deltas() if stored <= delta + 1e-12]
        if not usable:
            offered = ", ".join(f"{stored:g}" for stored in self.deltas()) or "none"
            return Promise(None, f"no bound for delta {delta:g}: the artifact holds {offered}")
        key = f"{usable[-1]:g}"
        best: CertifiedPoint | None = None
        for point in self.points:
            if point.upper[key] > max_risk:
                break
            best = point
        if best is None or best.kept == 0:
            lowest = min(point.upper[key] for point in self.points)
            return Promise(
                None,
                f"nothing is kept: with {self.rows} certification rows the lowest joint regret that can be "
                f"promised at delta {delta:g} is {lowest:.4f} > maxRisk {max_risk:g}; more labels lower it",
            )
        reason = (
            f"joint regret <= {best.upper[key]:.4f} <= maxRisk {max_risk:g} with confidence "
            f"{1 - delta:g}: {best.regret:g} of {self.rows} certification rows at threshold {best.threshold:.4f}"
        )
        return Promise(best.threshold, reason, best.kept / self.rows, best)
