"""What every benchmark shares: cores, processes, the load generator, environments of peers, the report."""
