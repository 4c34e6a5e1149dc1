"""Desired state as pure functions: HybridRoute in, Serve config and live policy out."""
