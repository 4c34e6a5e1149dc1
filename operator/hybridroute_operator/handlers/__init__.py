"""The operator's only acquaintance with kopf: events become keys in a queue, and nothing is decided here."""
