"""Rehearsals: load and surges, as they would come from outside."""
