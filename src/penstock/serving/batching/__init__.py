"""Micro-batching: requests of several callers run through a model together."""
