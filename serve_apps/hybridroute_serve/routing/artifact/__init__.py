"""The artifact of calibrated routing: its file, and the scores that replicas compute from it."""
