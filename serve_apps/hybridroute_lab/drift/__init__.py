"""Limits of the drift charts, set by block bootstrap, and a replay of sessions to measure them."""
