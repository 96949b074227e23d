"""Watermarks: how far event time has come in one partition, and in several together.

The watermark is the largest event time seen, less the lateness that is allowed ("bounded out-of-orderness";
Akidau et al., "The Dataflow Model", 2015, has the notion). Each event is judged by the watermark before it, so
how events are cut into frames changes nothing.

When traffic stops, event time goes on with the time that really passes. That is measured by a monotonic clock
between calls of `tick`, and no single call makes a partition idle: neither a time of day that jumps by an hour
nor a process that was stopped for one closes all windows at a stroke.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from penstock.core.errors import ConfigurationError, CorruptState
from penstock.streams.packing import pack, unpack

__all__ = ["BEGINNING_MS", "CombinedWatermark", "Watermark", "WatermarkConfig", "WatermarkStatistics"]

BEGINNING_MS = -(2**62)
"""The watermark before the first event: before all times, and durations can be taken from it."""

LATENESS_MS_MAX = 10 * 366 * 86_400_000
FORM = "watermark-1"


@dataclass(frozen=True, kw_only=True)
class WatermarkConfig:
    """Events may be out of order by `lateness_ms`. A partition without an event for `idle_ms` of real time
    holds nothing back any more, and its event time goes on by itself; None: never.

    Raises `ConfigurationError` for durations that mean nothing.
    """

    lateness_ms: int
    idle_ms: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.lateness_ms <= LATENESS_MS_MAX or (self.idle_ms is not None and self.idle_ms < 1):
            raise ConfigurationError(
                f"a lateness of {self.lateness_ms} ms and idleness after {self.idle_ms} ms cannot work",
                hint="0 <= lateness <= ten years, idle at least one millisecond or None",
            )

    def build(self, state: bytes | None) -> "Watermark":
        """Raises `CorruptState`."""
        watermark = Watermark(self)
        if state:
            watermark.apply_changes(state)
        return watermark


class WatermarkStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """`events` seen and how many of them were `late`; the largest time among them and the watermark, in
    milliseconds since 1970, None before the first event; `lag_ms`: how far the watermark is behind the time of
    day.
    """

    events: int
    late: int
    time_max_ms: int | None
    watermark_ms: int | None
    lag_ms: int | None
    idle: bool


class Watermark:
    """Of one partition. It never goes backwards.

    What it keeps is written out whole by `take_changes`: it is a few numbers.
    """

    def __init__(self, config: WatermarkConfig) -> None:
        self._config = config
        self._time_max_ms = BEGINNING_MS
        self._reached_ms = BEGINNING_MS
        """Where event time stands: the largest time seen, or further where real time went on without events."""
        self._events = 0
        self._late = 0
        self._changed = False
        self._arrived = False
        self._ticked_ms: float | None = None
        self._quiet_ms = 0.0

    @property
    def watermark_ms(self) -> int:
        """No event older than that is expected any more."""
        return self._reached_ms - self._config.lateness_ms if self._events else BEGINNING_MS

    @property
    def idle(self) -> bool:
        """Whether nothing has come for so long that nobody waits for it."""
        idle_ms = self._config.idle_ms
        return idle_ms is not None and not self._arrived and self._quiet_ms >= idle_ms

    def split(self, times_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Takes note of events in their order; which of them are late, by the watermark before each."""
        count = len(times_ms)
        if count == 0:
            return np.zeros(0, np.bool_)
        reached_ms = np.empty(count + 1, np.int64)
        reached_ms[0] = self._reached_ms
        reached_ms[1:] = times_ms
        np.maximum.accumulate(reached_ms, out=reached_ms)
        late: npt.NDArray[np.bool_] = times_ms < reached_ms[:-1] - self._config.lateness_ms
        self._reached_ms = int(reached_ms[-1])
        self._time_max_ms = max(self._time_max_ms, int(times_ms.max()))
        self._events += count
        self._late += int(np.count_nonzero(late))
        self._arrived = self._changed = True
        return late

    def tick(self, monotonic_ms: float) -> None:
        """Real time has gone on, and all that is in the partition by now has been given to `split`.

        Between two calls at most half of `idle_ms` is taken to have passed: whoever was stopped for longer has
        not seen that the partition was quiet meanwhile.
        """
        idle_ms = self._config.idle_ms
        if idle_ms is None:
            return
        elapsed_ms = 0.0 if self._ticked_ms is None else monotonic_ms - self._ticked_ms
        elapsed_ms = min(max(elapsed_ms, 0.0), idle_ms / 2)
        self._ticked_ms = monotonic_ms
        if self._arrived:
            self._arrived = False
            self._quiet_ms = 0.0
            return
        was_idle = self.idle
        self._quiet_ms += elapsed_ms
        if self._events and self.idle:
            self._go_on(was_idle, elapsed_ms)

    def take_changes(self) -> bytes:
        changed, self._changed = self._changed, False
        return self.snapshot() if changed else b""

    def apply_changes(self, changes: bytes) -> None:
        """Raises `CorruptState`."""
        if not changes:
            return
        header, _ = unpack(changes)
        names = ("time_max_ms", "reached_ms", "events", "late")
        values = [value for name in names if type(value := header.get(name)) is int]
        if header.get("form") != FORM or len(values) < len(names):
            raise CorruptState("what is kept of a watermark is that of something else")
        self._time_max_ms, self._reached_ms, self._events, self._late = values

    def snapshot(self) -> bytes:
        header: dict[str, object] = {
            "form": FORM,
            "time_max_ms": self._time_max_ms,
            "reached_ms": self._reached_ms,
            "events": self._events,
            "late": self._late,
        }
        return pack(header, {})

    def statistics(self, now_ms: int) -> WatermarkStatistics:
        known = self._events > 0
        return WatermarkStatistics(
            events=self._events,
            late=self._late,
            time_max_ms=self._time_max_ms if known else None,
            watermark_ms=self.watermark_ms if known else None,
            lag_ms=now_ms - self.watermark_ms if known else None,
            idle=self.idle,
        )

    def _go_on(self, was_idle: bool, elapsed_ms: float) -> None:
        """Event time as if one had come with each moment that passed since the last one."""
        quiet_ms = self._time_max_ms + int(self._quiet_ms)
        further_ms = self._reached_ms + int(elapsed_ms) if was_idle else self._reached_ms
        reached_ms = max(quiet_ms, further_ms)
        if reached_ms > self._reached_ms:
            self._reached_ms = reached_ms
            self._changed = True


class CombinedWatermark:
    """Of several inputs: the least of those that are not idle; of all, when all are, the furthest.

    It never goes backwards, also where an input wakes up behind it. `value_ms` is all of its state.
    """

    def __init__(self, value_ms: int = BEGINNING_MS) -> None:
        self.value_ms = value_ms

    def update(self, inputs: Iterable[Watermark]) -> int:
        awake: list[int] = []
        idle: list[int] = []
        for watermark in inputs:
            (idle if watermark.idle else awake).append(watermark.watermark_ms)
        reached_ms = min(awake) if awake else max(idle, default=BEGINNING_MS)
        self.value_ms = max(self.value_ms, reached_ms)
        return self.value_ms
