"""What a request costs. Pure."""
