"""What a request says of the job that it is to be.

Sources: RFC 7240 (Prefer), and the IETF's draft of the header Idempotency-Key.
"""

import hashlib
import math
from collections.abc import Mapping

from penstock.core.errors import InvalidInput, shown
from penstock.serving.jobs.job import JobRequest
from penstock.serving.jobs.webhook_urls import WEBHOOK_URL
from penstock.serving.protocols.terms import PREDICTION

__all__ = ["digest_of", "kept_headers", "key_of", "wait_us_max", "wants_job", "webhook_of"]

PREFER = b"prefer"
KEY = b"idempotency-key"
EXPIRES = b"x-job-expires-s"
KEY_LENGTH_MAX = 255
WAIT_S_MIN, WAIT_S_MAX = 0.001, 30 * 86_400.0
KEPT = (b"content-type", b"inference-header-content-length", b"accept", PREDICTION)
"""The headers that an answer depends on. What says who asks is not kept: it is a secret."""


def wants_job(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the client would rather be told now that it will be answered later."""
    prefer = headers.get(PREFER)
    if prefer is None:
        return False
    for each in prefer.split(b","):
        name, _, value = each.partition(b";")[0].partition(b"=")
        if name.strip().lower() == b"respond-async":
            # It has no value, RFC 7240 says; the first is what counts.
            return value.strip().strip(b'"').lower() in (b"", b"true")
    return False


def key_of(headers: Mapping[bytes, bytes]) -> str | None:
    """The caller's own name for the job. Raises `InvalidInput` for what can be none."""
    given = headers.get(KEY)
    if given is None:
        return None
    key = given.decode("latin-1").strip()
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if not key or len(key) > KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        raise InvalidInput(
            f"{KEY.decode()} {shown(key)} is empty, has more than {KEY_LENGTH_MAX} characters, or others than"
            " ASCII",
            where=KEY.decode(),
            hint="send a new UUID with each new request, and the same again with its repetitions",
        )
    return key


def wait_us_max(headers: Mapping[bytes, bytes]) -> int | None:
    """How long the job may wait, in microseconds; None: as long as it takes. Raises `InvalidInput`."""
    given = headers.get(EXPIRES)
    if given is None:
        return None
    try:
        # Python's own form of numbers is wider: 1_0 is ten.
        seconds = math.nan if b"_" in given else float(given)
    except ValueError:
        seconds = math.nan
    if not WAIT_S_MIN <= seconds <= WAIT_S_MAX:
        raise InvalidInput(
            f"{EXPIRES.decode()} is {shown(given.decode('latin-1'))}, not a number of seconds from {WAIT_S_MIN}"
            f" to {WAIT_S_MAX:.0f}",
            where=EXPIRES.decode(),
            hint="leave it out where the job may wait as long as it takes",
        )
    return int(seconds * 1_000_000)


def webhook_of(headers: Mapping[bytes, bytes]) -> str | None:
    given = headers.get(WEBHOOK_URL.encode())
    return None if given is None else given.decode("latin-1").strip()


def kept_headers(headers: Mapping[bytes, bytes], job: str) -> dict[str, str]:
    """Those with which the request is asked. Each attempt's prediction has the same id: that which the caller
    names, else the job's.
    """
    kept = {name.decode(): headers[name].decode("latin-1") for name in KEPT if name in headers}
    return {PREDICTION.decode(): job, **kept}


def digest_of(request: JobRequest, headers: Mapping[bytes, bytes]) -> str:
    """What stands for all that a job asks: another request with the same is the same request."""
    digest = hashlib.sha256()
    asked = (request.target.encode("latin-1"), *(headers.get(name, b"") for name in (*KEPT, EXPIRES)))
    for part in (*asked, headers.get(WEBHOOK_URL.encode(), b""), request.body):
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.hexdigest()
