"""The SLM application: admission, one attempt on the engine, the request's share of the replica's busy time."""
