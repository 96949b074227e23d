"""Protocols: the wire's forms of what the data plane does. Only this package knows HTTP."""
