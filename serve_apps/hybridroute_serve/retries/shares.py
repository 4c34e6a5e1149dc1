"""How the keeper shares one route's retry budget out among its replicas, so that their number adds nothing.

Floor and cap are lent in equal parts, as leases. At every moment, whatever is lost, late or dead:

    sum of floors that replicas may hold <= floor of the route, and the same of caps

A newcomer therefore gets nothing until the others have shrunk and said so, and a dead replica's part comes
free only when its lease has run out: a crash loop mints nothing. What a replica may hold is every lease that
was sent to it and that it has not yet replaced; it names the one it holds whenever it asks for the next.
Rules for the replica: one request at a time, numbered; the answer to an abandoned one is thrown away; a lease
counts from the moment its request was *sent*; past its end it is zero.

After a keeper's restart earlier leases are unknown: until they have run out (`quarantine_seconds`), a replica
gets at most what it says it holds. Pure; times are seconds of the keeper's monotonic clock.
"""

from dataclasses import dataclass, field

__all__ = ["HeldShare", "Share", "ShareBook", "ShareGrant", "ShareRequest", "ShareTerms"]

_SMALLEST_CAP_TOKENS = 2.0
"""A share that cannot pay one extra attempt after a timeout is no use to anybody."""

_SHARE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the route's retry budget."""

    floor_tokens_per_second: float
    cap_tokens: float

    def most(self, other: "Share") -> "Share":
        """Return the larger of each."""
        return Share(
            max(self.floor_tokens_per_second, other.floor_tokens_per_second),
            max(self.cap_tokens, other.cap_tokens),
        )

    def least(self, other: "Share") -> "Share":
        """Return the smaller of each."""
        return Share(
            min(self.floor_tokens_per_second, other.floor_tokens_per_second),
            min(self.cap_tokens, other.cap_tokens),
        )


_NOTHING = Share(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ShareTerms:
    """How leases are given."""

    lease_seconds: float = 10.0
    """How long a share may be used without the keeper."""
    margin_seconds: float = 1.0
    """Added before an expired lease is given to others: clocks drift, and a stopped process wakes mid-step."""
    hasten_seconds: float = 0.5
    """When to ask again while shares are moving; otherwise after a third of the lease."""


@dataclass(frozen=True, slots=True)
class HeldShare:
    """The lease that a replica holds as it asks for the next."""

    serial: str
    share: Share


@dataclass(frozen=True, slots=True)
class ShareRequest:
    """A replica asks for its next lease."""

    replica: str
    """Unique to one incarnation of one process."""
    sequence: int
    """Rises with each request, so that a late one is known as such."""
    held: HeldShare | None
    """None when it holds nothing that is still valid."""


@dataclass(frozen=True, slots=True)
class ShareGrant:
    """A lease on a share; it replaces the one before."""

    serial: str
    share: Share
    lease_seconds: float
    renew_after_seconds: float


@dataclass(slots=True)
class _Member:
    sequence: int
    leases: dict[str, tuple[Share, float]] = field(default_factory=dict)
    """Every lease it may hold, and when that is over."""

    def may_hold(self) -> Share:
        most = _NOTHING
        for share, _ in self.leases.values():
            most = most.most(share)
        return most


class ShareBook:
    """Which leases are out. Kept in memory by the keeper, and only while it holds its epoch."""

    def __init__(
        self,
        totals: Share,
        terms: ShareTerms,
        *,
        epoch: int,
        now: float,
        quarantine_seconds: float,
    ) -> None:
        """`quarantine_seconds`: lease and margin after a restart; 0 only when no keeper was ever before."""
        self._totals = totals
        self._terms = terms
        self._epoch = epoch
        self._quarantined_until = now + quarantine_seconds
        self._granted = 0
        self._members: dict[str, _Member] = {}

    def change_totals(self, totals: Share) -> None:
        """Follow the live policy; replicas shrink as they ask again, and the bound holds once all have."""
        self._totals = totals

    def renew(self, request: ShareRequest, now: float) -> ShareGrant | None:
        """Lend a replica its part; None for a request that was overtaken by a later one."""
        self.expire(now)
        member = self._members.get(request.replica)
        if member is None:
            member = self._members[request.replica] = _Member(request.sequence)
            if request.held is not None and now < self._quarantined_until:
                member.leases[request.held.serial] = (request.held.share, self._end(now))
        elif request.sequence <= member.sequence:
            return None
        member.sequence = request.sequence
        # What it does not name it has replaced, or will throw away.
        held_serial = request.held.serial if request.held is not None else None
        member.leases = {serial: lease for serial, lease in member.leases.items() if serial == held_serial}

        share = self._part_of(request.replica).least(self._free_for(request.replica))
        if now < self._quarantined_until:
            share = share.least(member.may_hold())
        self._granted += 1
        serial = f"{self._epoch}.{self._granted}"
        member.leases[serial] = (share, self._end(now))
        return ShareGrant(
            serial=serial,
            share=share,
            lease_seconds=self._terms.lease_seconds,
            renew_after_seconds=(
                self._terms.lease_seconds / 3 if self._is_settled() else self._terms.hasten_seconds
            ),
        )

    def leave(self, replica: str) -> None:
        """Take back the share of a replica that says it has stopped for good."""
        self._members.pop(replica, None)

    def expire(self, now: float) -> None:
        """Forget leases that have run out."""
        for name, member in list(self._members.items()):
            member.leases = {serial: lease for serial, lease in member.leases.items() if lease[1] > now}
            if not member.leases:
                del self._members[name]

    def lent(self) -> Share:
        """Return the sum of what replicas may hold."""
        return self._sum_without(None)

    def members(self) -> tuple[str, ...]:
        """Return the replicas that hold a lease, oldest first."""
        return tuple(self._members)

    def _end(self, now: float) -> float:
        return now + self._terms.lease_seconds + self._terms.margin_seconds

    def _part_of(self, replica: str) -> Share:
        """Equal parts for as many replicas as can have a useful one, the oldest first."""
        seats = max(1, min(len(self._members), int(self._totals.cap_tokens // _SMALLEST_CAP_TOKENS)))
        if list(self._members).index(replica) >= seats:
            return _NOTHING
        return Share(self._totals.floor_tokens_per_second / seats, self._totals.cap_tokens / seats)

    def _free_for(self, replica: str) -> Share:
        others = self._sum_without(replica)
        return Share(
            max(0.0, self._totals.floor_tokens_per_second - others.floor_tokens_per_second),
            max(0.0, self._totals.cap_tokens - others.cap_tokens),
        )

    def _sum_without(self, replica: str | None) -> Share:
        held = [member.may_hold() for name, member in self._members.items() if name != replica]
        return Share(
            sum(share.floor_tokens_per_second for share in held), sum(share.cap_tokens for share in held)
        )

    def _is_settled(self) -> bool:
        """Say whether every member may hold its part and nothing else."""
        for name, member in self._members.items():
            part, held = self._part_of(name), member.may_hold()
            if abs(part.cap_tokens - held.cap_tokens) > _SHARE_TOLERANCE * max(1.0, part.cap_tokens):
                return False
            if abs(part.floor_tokens_per_second - held.floor_tokens_per_second) > _SHARE_TOLERANCE:
                return False
        return True
