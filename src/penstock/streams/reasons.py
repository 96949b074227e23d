"""Why an event went to the dead letters."""

from enum import StrEnum

__all__ = ["Reason"]


class Reason(StrEnum):
    """As it is written in a dead letter's headers."""

    UNDECODABLE = "undecodable"
    """Its bytes are none of the format."""
    SCHEMA = "schema"
    """A field is missing, of another type, or outside of what was declared."""
    TIME_OUT_OF_RANGE = "time_out_of_range"
    """Its time is before 1970 or too far ahead of now."""
    EXPECTATION = "expectation"
    """It was read, and something that was declared of it does not hold."""
    LATE = "late"
    """It was replayed, its time is before the watermark by now, and late events of its stream go nowhere."""
    RAISED = "raised"
    """A function or expression of the stream failed on it."""
    HUNG = "hung"
    """A function of the stream did not return with it, and the process had to end."""
    CRASHED = "crashed"
    """With it alone at work the process ended, again and again: a crash of native code, or no memory left."""
