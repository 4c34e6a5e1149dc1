"""The contract from keeper to routers about drift, version 1: one standing for the whole fleet.

The keeper makes it of every replica's records; routers poll it and decide by it. Plain dataclasses, like records.
"""

from dataclasses import dataclass

__all__ = ["DriftStanding"]


@dataclass(frozen=True, slots=True)
class DriftStanding:
    """What the keeper knows of one artifact's drift. Of no meaning to a router that decides by another artifact."""

    artifact: str
    """Digest of the artifact; empty while the route has none."""
    alarm: str | None = None
    """The alarm in force, in a few words with its numbers; None: there is none."""
    void: str | None = None
    """Why drift has voided the promise; stays when the alarm ends."""
    unknown: str | None = None
    """Why it is not known whether the promise holds."""
