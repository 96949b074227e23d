"""What every benchmark shares: processes and cores, the load generator, environments of peers, the JSON report."""
