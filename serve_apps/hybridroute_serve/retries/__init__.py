"""Extra attempts that failures cause: their budget, its shares, breakers, plans and waits. Pure."""
