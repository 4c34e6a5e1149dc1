"""The operator's only way to an API server: `port` says what it needs, `kubernetes` does it."""
