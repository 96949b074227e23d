"""Models: versions, their formats, compilation, runtimes and the registry."""
