"""Learns what an artifact holds: the blended scores and the scope gate. scikit-learn and scipy live here alone."""
