"""The error family. Facts are attributes; adapters map a kind to an HTTP status or an exit code.

    PenstockError
    ├── InvalidInput             what a client or a user sent is wrong
    │   ├── TooLarge             it passes a stated limit
    │   ├── Unsupported          its content type or encoding is none that is understood here
    │   └── UntrustedArtifact    it would have to be unpickled, and nobody said it is trusted
    ├── NotFound                 no such model, version, alias or path
    ├── Conflict                 what was expected to stand does not stand any more
    ├── Forbidden                the settings do not let a client do this
    ├── Refused                  not taken on now; the same request may succeed later
    ├── DeadlineExceeded         the time allowed for it has passed
    ├── ModelFailed              the model itself broke on input that its signature allows
    │   └── WrongOutputs         it gave something else than what is known to be right
    ├── ConfigurationError       settings, an app file or the environment cannot be used
    ├── CorruptArtifact          stored bytes do not have the digest they were stored under
    ├── CorruptRecords           bytes of the log do not have the checksum they were appended with
    ├── CorruptState             a snapshot or change of a stream's state cannot be read
    ├── Fenced                   what this process held is another's by now
    └── StorageFailed            the disk or the database refused; nothing was half written

An outcome that is expected and handled by the next line of code is a value, not one of these.
"""

__all__ = [
    "ConfigurationError",
    "Conflict",
    "CorruptArtifact",
    "CorruptRecords",
    "CorruptState",
    "DeadlineExceeded",
    "Fenced",
    "Forbidden",
    "InvalidInput",
    "ModelFailed",
    "NotFound",
    "PenstockError",
    "QuotaExceeded",
    "Refused",
    "StorageFailed",
    "TooLarge",
    "Unsupported",
    "UntrustedArtifact",
    "WrongOutputs",
    "shown",
]

SHOWN_LENGTH_MAX = 80


def shown(value: object) -> str:
    """A value from outside as a message has it: quoted, and cut to what a message can hold."""
    if isinstance(value, str):
        return repr(value if len(value) <= SHOWN_LENGTH_MAX else f"{value[:SHOWN_LENGTH_MAX]}…")
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        # Nested beyond the stack, or an integer of more digits than Python writes.
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN_LENGTH_MAX else f"{text[:SHOWN_LENGTH_MAX]}…"


class PenstockError(Exception):
    """The root of all errors that Penstock raises on purpose.

    `message` says what is wrong and where, `hint` what to do about it. Both are written for the person
    who can mend it and never carry a secret.
    """

    timed_out = False
    """Whether it says that the time which its caller had was over: with more time there may be an answer."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")  # where it is shown by a traceback, the hint is too

    def __str__(self) -> str:
        return self.message


class InvalidInput(PenstockError):
    """What was sent does not fit. `where` names the place: an input tensor, a field, a file."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.where = where


class TooLarge(InvalidInput):
    """What was sent passes a limit."""


class Unsupported(InvalidInput):
    """What was sent, or is wanted back, is in a form that is not understood here."""


class UntrustedArtifact(InvalidInput):
    """Opening the artifact would run code from it, and it was not declared trusted."""


class NotFound(PenstockError):
    """There is no such thing under that name."""


class Conflict(PenstockError):
    """A compare-and-swap lost, or a name is taken."""


class Forbidden(PenstockError):
    """The settings do not let a client do this."""


class Refused(PenstockError):
    """Not taken on now. `retry_after_s` is the least time, in seconds, after which to try again."""

    def __init__(
        self, message: str, *, reason: str, retry_after_s: float = 1.0, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.reason = reason
        self.retry_after_s = retry_after_s


class QuotaExceeded(Refused):
    """Not taken on because this caller has had its share."""


class DeadlineExceeded(PenstockError):
    """The request's deadline passed before its answer was ready.

    `overran`: not because it had to wait, but because the model took longer than a run of it should. `waited`:
    it is known that no run of it had begun.
    """

    timed_out = True

    def __init__(
        self, message: str, *, hint: str | None = None, overran: bool = False, waited: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.overran = overran
        self.waited = waited


class ModelFailed(PenstockError):
    """The model raised, crashed or answered against its signature."""


class WrongOutputs(ModelFailed):
    """On golden rows the model gave other outputs than are known to be right."""


class ConfigurationError(PenstockError):
    """Settings, an app file or the environment cannot be used as they are."""


class CorruptArtifact(PenstockError):
    """Stored bytes do not match their digest; they were not parsed."""


class CorruptRecords(PenstockError):
    """A frame of the log is damaged; none of it was given out. `where` is topic/partition, `offset` its first
    record's.
    """

    def __init__(
        self, message: str, *, where: str | None = None, offset: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.where = where
        self.offset = offset


class CorruptState(PenstockError):
    """A snapshot, or a change that followed it, cannot be read; nothing of it was taken on."""


class Fenced(PenstockError):
    """Partitions or an identity that this process held are another's by now; nothing was committed."""


class StorageFailed(PenstockError):
    """A write to the disk or the database failed; what was there before still stands."""
