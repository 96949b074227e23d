"""Feature views in streams: what windows come to is made features, sent on, kept for reading, and appended."""
