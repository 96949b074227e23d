"""Observing: measures and logs."""
