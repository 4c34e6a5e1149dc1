"""The cascade's thresholds in an artifact: which margin escalates a given share of the traffic. Pure.

The lab chose them on the rows that it learned from, before the certification rows were opened, and then counted on
those what the cascade escalates and what regret it leaves. A cascade takes requests away from those that are kept, and
joint regret is a sum over the kept: whatever threshold stands here, the promise of the confidence gate holds.
"""

import msgspec

__all__ = ["MarginChoice", "MarginPoint", "MarginTable"]


class MarginPoint(msgspec.Struct, frozen=True):
    """One threshold of confidence, and the margins that belong to it, by share."""

    threshold: float
    """A request is kept when its confidence is at least this."""
    margins: tuple[float, ...]
    """A kept answer of a smaller margin is escalated."""
    regret: float = 0.0
    """Sum of regret over the certification rows that are kept."""
    escalated: tuple[int, ...] = ()
    """Certification rows that the cascade escalates."""
    regret_left: tuple[float, ...] = ()
    """Sum of regret over those that it leaves on the SLM."""


class MarginChoice(msgspec.Struct, frozen=True):
    """The answer for one route."""

    threshold: float | None
    """None: there is none, and the cascade looks at nothing."""
    why: str
    """A few words with numbers."""


class MarginTable(msgspec.Struct, frozen=True):
    """Points from strict to loose confidence."""

    tokens: int
    """Tokens of an answer that the margins were taken of."""
    shares: tuple[float, ...]
    """Shares of all requests that may be escalated, ascending."""
    points: tuple[MarginPoint, ...]
    rows: int
    """Rows that the margins were chosen on."""
    certify: int = 0
    """Rows that the counts are of; 0: nothing was counted."""

    def choose(self, confidence: float | None, max_share: float, tokens: int) -> MarginChoice:
        """Return the margin for a threshold of confidence. Between two of the table the more cautious counts."""
        if tokens != self.tokens:
            why = f"the policy's margins are of {self.tokens} tokens, and cascade.tokens is {tokens}"
            return MarginChoice(None, f"{why}: make both the same")
        found = self.find(0.0 if confidence is None else confidence, max_share)
        if found is None:
            return MarginChoice(None, f"the policy has no margin for a share as small as {max_share:g}")
        point, place = found
        share = self.shares[place]
        why = f"escalates at most {100 * share:g} % of {self.rows} labelled requests"
        if self.certify:
            left = point.regret_left[place] / self.certify
            why += (
                f"; of {self.certify} others {100 * point.escalated[place] / self.certify:.1f} %, joint regret "
                f"{point.regret / self.certify:.4f} without the cascade and {left:.4f} with it"
            )
        return MarginChoice(point.margins[place], why)

    def find(self, confidence: float, max_share: float) -> tuple[MarginPoint, int] | None:
        """Return the point that keeps at least what the threshold keeps, and the place of the share; None: no such."""
        place = sum(share <= max_share + 1e-12 for share in self.shares) - 1
        point = next((point for point in self.points if point.threshold <= confidence + 1e-12), None)
        return None if place < 0 or point is None else (point, place)
