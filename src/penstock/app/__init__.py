"""The user's declarations, and the only place that wires concrete parts to them."""
