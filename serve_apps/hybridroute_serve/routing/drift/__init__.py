"""Watches whether traffic still looks like what the artifact was made on."""
