"""The router: one decision a request, forwarded and recorded."""
