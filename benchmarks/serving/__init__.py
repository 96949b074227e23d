"""What it costs to ask a model for an answer: Penstock, six peers and two limits."""
