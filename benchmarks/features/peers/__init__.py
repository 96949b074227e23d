"""Others' feature stores, on the same keys."""
