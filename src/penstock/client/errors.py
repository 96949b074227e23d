"""What a call can end in but an answer.

    CallFailed                 any of these; a PenstockError
    ├── CallRejected           the server says that the request is wrong (4xx); the same would fail again
    ├── CallRefused            the server does not take it on now (503, 429), and was asked as often as allowed
    ├── CallTimedOut           the time allowed for the call has passed, here or at the server (504)
    ├── Unreachable            no server could be connected to, or each broke the connection off
    └── BadAnswer              an answer came that is none of a V2 server's, or that says the model broke (500)

What is wrong with inputs before anything is sent is `penstock.InvalidInput`.
"""

from penstock.core.errors import PenstockError

__all__ = ["BadAnswer", "CallFailed", "CallRefused", "CallRejected", "CallTimedOut", "Unreachable"]


class CallFailed(PenstockError):
    """`status` is the last HTTP status (None: no answer came), `reason` why in one word, `attempts` how often
    it was sent, `url` the server that was asked last.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str,
        attempts: int = 0,
        url: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.reason = reason
        self.attempts = attempts
        self.url = url


class CallRejected(CallFailed):
    """The server says that the request is wrong, or that there is no such model."""


class CallRefused(CallFailed):
    """Not taken on now. `retry_after_s` is how many seconds the server asked to wait; 0: it did not."""

    retry_after_s: float = 0.0


class CallTimedOut(CallFailed):
    """The time allowed for the call has passed."""

    timed_out = True


class Unreachable(CallFailed):
    """No server could be reached. The message names each URL and what happened there."""


class BadAnswer(CallFailed):
    """What came back cannot be used: a failure of the model or the server, or bytes that are no V2 answer."""
