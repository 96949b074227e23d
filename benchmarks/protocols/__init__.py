"""What real clients meet: codecs, gRPC, rows, hot swaps, kill -9, rolling restarts, and an hour of abuse."""
