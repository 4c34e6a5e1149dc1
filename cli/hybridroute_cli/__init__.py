"""The `hybridroute` command."""
