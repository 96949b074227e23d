"""The stream engine: events in, results out, exactly once."""
