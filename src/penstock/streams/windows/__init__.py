"""Windows over event time: tiles by key and step, and what is read of them."""

from penstock.streams.windows.sessions import SessionConfig, Sessions
from penstock.streams.windows.window import Window, WindowConfig, WindowStatistics

__all__ = ["SessionConfig", "Sessions", "Window", "WindowConfig", "WindowStatistics"]
