"""Runtimes: what executes a version."""
