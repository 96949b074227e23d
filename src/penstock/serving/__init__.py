"""Serving: protocols over one data plane, which stands on batching."""
