"""Penstock serves and streams machine-learning models that keep their promises under any load."""
