"""The routing decision: text, scores, gates. Pure."""
