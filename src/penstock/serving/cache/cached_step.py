"""`cached_step`: keeps what a function of arrays and scalars gave, for who calls it with the same.

For what is dear beside a model: features that are computed, text that is tokenised. It works in any process and
any thread; each process keeps its own.
"""

import inspect
import sys
import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from penstock.core.calling import inherited_deadline_s
from penstock.core.clock import Clock, SystemClock
from penstock.core.durations import duration_s
from penstock.core.errors import ConfigurationError, DeadlineExceeded, InvalidInput, PenstockError, shown
from penstock.core.rng import secret_bytes
from penstock.serving.cache.keys import canonical, digest
from penstock.serving.cache.prediction_cache import CacheStatistics
from penstock.serving.cache.s3_fifo import Entry, S3Fifo

__all__ = ["CachedStep", "cached_step"]

P = ParamSpec("P")
R = TypeVar("R")

BYTES_MAX = 64 * 1024 * 1024
BYTES_MAX_MIN = 64 * 1024
TTL_S_MAX = 30 * 86_400.0
ENTRY_BYTES = 700
"""What an entry costs beside its value."""
OBJECT_BYTES = 120
DEPTH_MAX = 32
WAIT_S_MAX = 86_400.0
"""A lock takes no more than some centuries."""
_NO_STEPS = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_PLAIN = frozenset({type(None), bool, int, float, complex, str, bytes})
"""What cannot be changed, and weighs what the interpreter says."""
_NESTS = frozenset({list, tuple, dict})


def cached_step(
    *, ttl: str | float, bytes_max: int = BYTES_MAX, clock: Clock | None = None
) -> Callable[[Callable[P, R]], "CachedStep[P, R]"]:
    """Keeps what the function under it gives for `ttl` ("10m", or seconds), within `bytes_max` bytes.

    Its arguments, and what it gives, are arrays, numbers, text, bytes, None, and lists, tuples and dicts of
    them; a call with others, or that gives others, raises `TypeError`: they cannot be told apart, or weighed.
    What it gives is shared: its arrays cannot be written to, and dicts and lists are each caller's own. Threads
    that call it at once with the same share one run of it, also one that raises; what is raised is not kept.
    Who waits for another's run does so until its own deadline at most (`penstock.client.deadline`, or that of
    the request that a model runs for), and then gets `DeadlineExceeded`. A run that fails because its caller's
    time is over fails for that one alone: one of those who have more time runs it anew.

    Raises `ConfigurationError` for times and sizes that are none, and for coroutines, generators and methods.
    """
    ttl_s = _checked_ttl_s(ttl)
    _check_bytes_max(bytes_max)

    def decorate(function: Callable[P, R]) -> "CachedStep[P, R]":
        _check_function(function)
        return CachedStep(function, ttl_s, bytes_max, clock or SystemClock())

    return decorate


def _checked_ttl_s(ttl: object) -> float:
    ttl_s = duration_s(ttl, "ttl of a cached step")
    if not 0 < ttl_s <= TTL_S_MAX:
        raise ConfigurationError(
            f"ttl of a cached step is {shown(ttl)}", hint="it is above 0, and 30 days at most"
        )
    return ttl_s


def _check_bytes_max(bytes_max: object) -> None:
    """An app file is not type-checked before it runs."""
    if not isinstance(bytes_max, int) or isinstance(bytes_max, bool) or bytes_max < BYTES_MAX_MIN:
        raise ConfigurationError(
            f"bytes_max of a cached step is {shown(bytes_max)}",
            hint=f"it is a number of bytes, {BYTES_MAX_MIN} or more",
        )


def _check_function(function: object) -> None:
    called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
    if called is None or any(is_other(called) for is_other in _NO_STEPS) or _is_method(function):
        raise ConfigurationError(
            f"{shown(getattr(function, '__name__', function))} cannot be a cached step",
            hint="a cached step is a function, and no coroutine, generator or method (self has no key)",
        )


def _is_method(function: object) -> bool:
    """Seen by its first parameter's name: in a class's body nothing else tells methods."""
    if not inspect.isfunction(function):
        return False
    code = function.__code__
    return code.co_argcount > 0 and code.co_varnames[0] in {"self", "cls"}


class _Flight:
    """A call that runs, and what became of it. `until_s` is the deadline that it runs under, None for none."""

    __slots__ = ("done", "error", "kept", "late", "thread", "until_s")

    def __init__(self, until_s: float | None) -> None:
        self.until_s = until_s
        self.thread = threading.get_ident()
        self.done = threading.Event()
        self.kept: Any = None
        self.error: BaseException | None = None
        self.late = False
        """Whether it may have failed only because that deadline was too near."""

    def fails_alone(self, until_s: float | None, now_s: float) -> bool:
        """Whether its error is no answer to who waited for it, has until then, and so asks anew."""
        if not isinstance(self.error, Exception):
            return self.error is not None  # interrupted from outside, which was meant for that thread alone
        if not self.late or self.until_s is None:
            return False
        return until_s is None or until_s > max(self.until_s, now_s)


class CachedStep(Generic[P, R]):
    """A function whose results are kept. Threads may share it."""

    def __init__(self, function: Callable[P, R], ttl_s: float, bytes_max: int, clock: Clock) -> None:
        self._function = function
        self._ttl_s = ttl_s
        self._clock = clock
        self._secret = secret_bytes()
        self._lock = threading.Lock()
        self._store: S3Fifo[Any] = S3Fifo(bytes_max)
        self._flights: dict[bytes, _Flight] = {}
        self._hits = self._misses = self._joined = 0
        self._ran_s = 0.0
        self._ran = 0
        update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            key = digest(self._secret, [canonical((args, dict(kwargs)))])
        except InvalidInput as error:
            name = getattr(self._function, "__name__", "the step")
            raise TypeError(f"{name} is a cached step: {error.message}; {error.hint}") from None
        until_s = inherited_deadline_s()
        while True:
            with self._lock:
                entry = self._store.get(key)
                if entry is not None and self._clock.monotonic() - entry.stored_s < self._ttl_s:
                    self._hits += 1
                    return _handed(entry.value)  # type: ignore[no-any-return]
                flight = self._flights.get(key)
                leads = flight is None
                if flight is None:
                    flight = self._flights[key] = _Flight(until_s)
                    self._misses += 1
            if leads:
                return self._lead(key, flight, *args, **kwargs)
            if flight.thread == threading.get_ident():
                return self._function(*args, **kwargs)  # it has called itself: nobody else would end that wait
            self._wait(flight, until_s)
            if flight.fails_alone(until_s, self._clock.monotonic()):
                continue
            with self._lock:
                self._joined += 1
            if flight.error is not None:
                raise flight.error
            return _handed(flight.kept)  # type: ignore[no-any-return]

    def statistics(self) -> CacheStatistics:
        with self._lock:
            mean_s = self._ran_s / self._ran if self._ran else 0.0
            return CacheStatistics(
                hits=self._hits,
                misses=self._misses,
                joined=self._joined,
                stale=0,
                saved_s=mean_s * (self._hits + self._joined),
            )

    @property
    def size_bytes(self) -> int:
        """What it keeps."""
        return self._store.size_bytes

    def _wait(self, flight: _Flight, until_s: float | None) -> None:
        """For another's run, but no longer than whoever this call is made for wants its answer."""
        left_s = None if until_s is None else min(max(0.0, until_s - self._clock.monotonic()), WAIT_S_MAX)
        if not flight.done.wait(left_s):
            name = getattr(self._function, "__name__", "the step")
            raise DeadlineExceeded(f"the deadline passed while another thread computed {name}")

    def _lead(self, key: bytes, flight: _Flight, *args: P.args, **kwargs: P.kwargs) -> R:
        begun_s = self._clock.monotonic()
        try:
            flight.kept = _own(self._function(*args, **kwargs))
        except BaseException as error:
            flight.error = error
            flight.late = _timed_out(error) or self._late(flight)
            raise
        else:
            self._keep(key, flight.kept, begun_s)
            return _handed(flight.kept)  # type: ignore[no-any-return]
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()

    def _late(self, flight: _Flight) -> bool:
        return flight.until_s is not None and self._clock.monotonic() >= flight.until_s

    def _keep(self, key: bytes, kept: Any, begun_s: float) -> None:
        size_bytes = ENTRY_BYTES + _weight(kept)
        with self._lock:
            now_s = self._clock.monotonic()
            self._ran += 1
            self._ran_s += now_s - begun_s
            self._store.put(key, Entry(kept, size_bytes, now_s, now_s + self._ttl_s), now_s)


def _timed_out(error: BaseException) -> bool:
    return isinstance(error, TimeoutError) or (isinstance(error, PenstockError) and error.timed_out)


def _own(value: Any, depth: int = 0) -> Any:
    """The value with arrays of its own that cannot be written to. Raises `TypeError` for what is not kept."""
    kind = type(value)
    if depth > DEPTH_MAX:
        raise TypeError(f"a cached step gave a value nested more than {DEPTH_MAX} deep")
    if kind is np.ndarray:
        if value.dtype.hasobject and not (value.dtype.kind == "O" and _PLAIN.issuperset(map(type, value.flat))):
            raise TypeError("a cached step gave an array of objects that are neither text, bytes nor numbers")
        own = value.copy()
        own.flags.writeable = False
        return own
    if (
        kind not in _PLAIN
        and kind not in _NESTS
        and not (isinstance(value, np.generic) and kind is not np.void)
    ):
        raise TypeError(
            f"a cached step gave a {shown(kind.__name__)}, which cannot be weighed; give arrays, numbers, "
            "text, bytes, None, and lists, tuples and dicts of them"
        )
    if kind is dict:
        for key in value:
            _own(key, depth + 1)
    return _rebuilt(value, lambda each: _own(each, depth + 1))


def _handed(value: Any) -> Any:
    """The value with dicts and lists that its receiver may change."""
    return _rebuilt(value, _handed)


def _rebuilt(value: Any, build: Callable[[Any], Any]) -> Any:
    if type(value) is dict:
        return {key: build(each) for key, each in value.items()}
    if type(value) is list:
        return [build(each) for each in value]
    if type(value) is tuple:
        return tuple(build(each) for each in value)
    return value


def _weight(value: Any) -> int:
    if type(value) is np.ndarray:
        elements: list[Any] = value.ravel().tolist() if value.dtype.kind == "O" else []
        return OBJECT_BYTES + value.nbytes + sum(map(sys.getsizeof, elements))
    size_bytes = sys.getsizeof(value)
    if type(value) is dict:
        return size_bytes + sum(_weight(key) + _weight(each) for key, each in value.items())
    if type(value) is list or type(value) is tuple:
        return size_bytes + sum(map(_weight, value))
    return size_bytes
