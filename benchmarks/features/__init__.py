"""Feature views: their history, training sets and reading by key, against peers and Polars."""
