"""The promise: exact bounds on joint regret from rows that nothing has learned from."""
