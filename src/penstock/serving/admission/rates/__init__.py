"""Rate limits: what may be asked how often, who asks, and the token buckets that are kept of it."""
