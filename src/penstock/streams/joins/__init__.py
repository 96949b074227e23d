"""Joins of two streams, and of a stream with a table; what they keep is columnar and bounded."""
