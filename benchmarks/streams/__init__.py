"""The log and the stream engine against their peers and against what decoding and the model alone allow."""
