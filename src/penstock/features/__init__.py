"""Features: what is known of a key, the same in the stream, in a request and in a training set."""
