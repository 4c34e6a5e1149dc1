"""The one stateful part: records, costs, live policy, metrics."""
