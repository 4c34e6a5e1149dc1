"""Paid and local attempts: the HTTP client, the relay of one attempt, the llm-proxy."""
