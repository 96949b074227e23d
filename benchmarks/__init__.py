"""Figures, taken against peers, limits or the code before a change in the same run; no test asserts them."""
