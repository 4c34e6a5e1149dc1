"""The dollar budget: windows, upper bounds, a ledger that reserves first, leases, stores. One adapter does I/O."""
