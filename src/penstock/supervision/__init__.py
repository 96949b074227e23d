"""Supervision: worker processes that share a port, kept alive, told what to serve, and added up."""
