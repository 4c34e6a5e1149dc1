"""Offline work: calibration, evaluation, drift replay."""
