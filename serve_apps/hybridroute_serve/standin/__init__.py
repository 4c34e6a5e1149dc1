"""The labelled local stand-in for a remote LLM, for runs without a provider's key."""
