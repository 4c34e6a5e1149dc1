"""One budget's account: its limit, what is settled in the window that counts, and how time moves it.

The window id never falls: a clock that steps back changes nothing, and money settled then counts in the latest
window seen. Not here: what is reserved or lent (`ledger`). Immutable and pure; money is integer nano-USD.
"""

from dataclasses import dataclass, field, replace

from hybridroute_api.windows import parse_window

__all__ = ["NOT_OVER", "Account", "AccountTerms"]

NOT_OVER = -1
"""`Account.unknown_since` while leases that were lost with the store may still be spent."""


@dataclass(frozen=True, slots=True)
class AccountTerms:
    """What an account may spend."""

    limit_nano_usd: int
    window: str
    """As `windows.parse_window` reads it."""


@dataclass(frozen=True, slots=True)
class Account:
    """One budget: the route's, or one client's."""

    terms: AccountTerms
    window_id: int
    """The latest that was seen."""
    settled: dict[int, int] = field(default_factory=dict)
    """Nano-USD by window id, for the ids that still count."""
    unknown_since: int | None = None
    """The last window id in which unknown money may have been spent; exhausted until that no longer counts."""
    retired: bool = False
    """No longer in the policy; kept, so that coming back does not forget what was spent."""

    @classmethod
    def fresh(cls, terms: AccountTerms, now_unix: float) -> "Account":
        """Return an account that has never spent anything."""
        return cls(terms, parse_window(terms.window).id_at(now_unix))

    @property
    def settled_nano_usd(self) -> int:
        """What is settled in the ids that count."""
        return sum(self.settled.values())

    @property
    def past_unknown(self) -> bool:
        """Whether nothing may be spent because nobody knows what was."""
        return self.unknown_since is not None

    @property
    def resets_at(self) -> float:
        """Unix time at which the oldest money that counts no longer does."""
        window = parse_window(self.terms.window)
        oldest = min(self.settled, default=self.window_id)
        if self.unknown_since == NOT_OVER:
            oldest = self.window_id
        elif self.unknown_since is not None:
            oldest = max(oldest, self.unknown_since)
        return window.starts_at(oldest + window.counted_ids)

    def turned(self, now_unix: float) -> "Account":
        """Return the account with its window moved forward and what no longer counts forgotten."""
        window = parse_window(self.terms.window)
        window_id = window.id_at(now_unix)
        if window_id <= self.window_id:
            return self
        oldest = window_id - window.counted_ids + 1
        settled = {key: nano_usd for key, nano_usd in self.settled.items() if key >= oldest}
        return replace(self, window_id=window_id, settled=settled)

    def with_lost_past_aged(self, now_unix: float) -> "Account":
        """Return the account with the end of its lost past noted, or open again if that no longer counts."""
        account = self.turned(now_unix)
        if account.unknown_since is None:
            return account
        if account.unknown_since == NOT_OVER:
            return replace(account, unknown_since=account.window_id)
        counted_ids = parse_window(account.terms.window).counted_ids
        is_over = account.window_id - account.unknown_since >= counted_ids
        return replace(account, unknown_since=None) if is_over else account

    def charged(self, nano_usd: int, now_unix: float) -> "Account":
        """Return the account with money settled in the window that is current now."""
        account = self.turned(now_unix)
        settled = account.settled.get(account.window_id, 0) + nano_usd
        return replace(account, settled={**account.settled, account.window_id: settled})

    def with_terms(self, terms: AccountTerms, now_unix: float) -> "Account":
        """Return the account under other terms; a new kind of window counts all that counted as spent now."""
        account = self.turned(now_unix)
        if terms.window == account.terms.window:
            return replace(account, terms=terms, retired=False)
        window_id = parse_window(terms.window).id_at(now_unix)
        settled = account.settled_nano_usd
        return Account(
            terms,
            window_id,
            settled={window_id: settled} if settled else {},
            unknown_since=NOT_OVER if account.past_unknown else None,
        )
