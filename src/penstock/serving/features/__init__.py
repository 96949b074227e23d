"""Models whose inputs are partly features: what is read for them, by whom, and what is kept of that."""
