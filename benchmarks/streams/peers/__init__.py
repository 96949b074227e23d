"""The systems that are compared, each run as a process of its own, with what all of them share in `contest`."""
