"""One module a command; each is thin."""
