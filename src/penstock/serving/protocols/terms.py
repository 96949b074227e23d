"""What a request's headers, or a call's metadata, say of it beside its inputs: the same names in both."""

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

from penstock.core.calling import DEFAULT_CRITICALITY, Criticality
from penstock.core.errors import InvalidInput, PenstockError, shown
from penstock.core.rng import Tokens
from penstock.core.tensors import Array
from penstock.serving.admission.rate_limits import RateLimits
from penstock.serving.admission.request_start import REQUEST_START
from penstock.serving.admission.rights import OF_ANYBODY, Granted, Rights
from penstock.serving.deployment import Deployment
from penstock.serving.inference import Inference

__all__ = ["NAMES", "PREDICTION", "SaidTerms", "Terms", "parse_timeout_s", "read_terms"]

TIMEOUTS = (b"x-request-timeout-ms", b"x-envoy-expected-rq-timeout-ms")
CRITICALITY = b"x-criticality"
RETRY = b"x-retry-attempt"
ENVOY_ATTEMPT = b"x-envoy-attempt-count"
"""Likewise by a proxy, which counts the first attempt as 1."""
CALLERS = (b"x-api-key", b"authorization")
FORWARDED_FOR = b"x-forwarded-for"
PREDICTION = b"x-prediction-id"
PREDICTION_LENGTH_MAX = 256
NAMES = frozenset(
    name.decode()
    for name in (*TIMEOUTS, CRITICALITY, RETRY, ENVOY_ATTEMPT, *CALLERS, FORWARDED_FOR, REQUEST_START)
)

_tokens = Tokens()


class SaidTerms(NamedTuple):
    """What headers alone say. `timeout_s` is the time that the caller gives, None for none; `caller` its key,
    empty where it brings none; `retry`: it has asked before.
    """

    timeout_s: float | None = None
    criticality: int = DEFAULT_CRITICALITY
    caller: bytes = b""
    retry: bool = False

    @classmethod
    def read(cls, headers: Mapping[bytes, bytes]) -> "SaidTerms":
        """From headers whose names are in lower case.

        Raises `InvalidInput` for a time that is no number above 0, a criticality that is none, and a number of
        retries that is none.
        """
        timeout_s: float | None = None
        for name in TIMEOUTS:
            asked_ms = headers.get(name)
            if asked_ms is not None:
                asked_s = parse_timeout_s(asked_ms.decode("latin-1"), name.decode())
                timeout_s = asked_s if timeout_s is None else min(timeout_s, asked_s)
        level = headers.get(CRITICALITY)
        criticality = DEFAULT_CRITICALITY
        if level is not None:
            criticality = Criticality.parse(level.decode("latin-1"), CRITICALITY.decode())
        caller = next((headers[name] for name in CALLERS if name in headers), b"")
        return cls(timeout_s, criticality, caller, _is_retry(headers))


class Terms:
    """What was said, who said it, and what became of it. `caller` is its key, else its address.

    `begun_s` is when it came to whoever passed it on, in monotonic seconds; infinity where that is not known.
    `highest` is the most important class that it may name: above that, it counts as that.

    `admitted`: it was decided already that the request is taken on.
    `tenant` is who asks, where there are rate limits; `metered`: they were charged with the request already.
    `falls_back`: it names no version, so that other rungs of the model's ladder may answer.
    `prediction` is what its answer is recorded under, empty where it is not.
    """

    __slots__ = (
        "admitted",
        "begun_s",
        "caller",
        "criticality",
        "falls_back",
        "highest",
        "limits",
        "metered",
        "prediction",
        "retry",
        "tenant",
        "timeout_s",
    )

    def __init__(
        self,
        said: SaidTerms,
        peer: bytes,
        granted: Granted = OF_ANYBODY,
        limits: RateLimits | None = None,
        tenant: str | None = None,
    ) -> None:
        self.begun_s = granted.begun_s
        self.highest = granted.highest
        self.timeout_s = said.timeout_s
        self.criticality = max(said.criticality, granted.highest)
        self.caller = said.caller or peer
        self.retry = said.retry
        self.admitted = False
        self.limits = limits
        self.tenant = tenant
        self.metered = False
        self.falls_back = False
        self.prediction = ""

    def narrow(self, timeout_s: float | None, criticality: int | None) -> None:
        """What the request itself says counts as well: the shorter time, and its own criticality."""
        if timeout_s is not None and (self.timeout_s is None or timeout_s < self.timeout_s):
            self.timeout_s = timeout_s
            self.admitted = False
        if criticality is not None:
            criticality = max(criticality, self.highest)
            if criticality != self.criticality:
                self.criticality = criticality
                self.admitted = False

    def inference(
        self, deployment: Deployment, tensors: Mapping[str, Array], arrived_s: float, longest_s: float
    ) -> Inference:
        """The request as the data plane knows it; nobody waits longer than `longest_s`.

        It came at `arrived_s`, or before that to whoever passed it on.

        Charges its tenant with it. Raises `QuotaExceeded`, and `TooLarge` for more rows than ever pass at once.
        """
        if self.tenant is not None:
            self.charge(deployment, _rows(tensors))
        timeout_s = self.timeout_s
        arrived_s = min(arrived_s, self.begun_s)
        return Inference(
            tensors,
            arrived_s,
            arrived_s + (longest_s if timeout_s is None or timeout_s > longest_s else timeout_s),
            deployment.due_s(arrived_s, timeout_s),
            self.criticality,
            self.caller,
            admitted=self.admitted,
            falls_back=self.falls_back,
            retry=self.retry,
            prediction=self.prediction,
        )

    def predict(self, said: str | None, headers: Mapping[bytes, bytes]) -> str:
        """What the answer is known by: the request's own id, in it or its headers, else a new one.

        Raises `InvalidInput` for one that is too long to come back in a header.
        """
        prediction = said or headers.get(PREDICTION, b"").decode("latin-1") or _tokens.next()
        if len(prediction) > PREDICTION_LENGTH_MAX:
            raise InvalidInput(
                f"the request's id has {len(prediction)} characters, and what is served is recorded under it",
                where="id" if said else PREDICTION.decode(),
                hint=f"it can have {PREDICTION_LENGTH_MAX}; without one, it gets one",
            )
        self.prediction = prediction
        return self.prediction

    def charge(self, deployment: Deployment, rows: int) -> None:
        """Charges the tenant with `rows` for a model, and with the request if it was not yet.

        Raises `QuotaExceeded`, and `TooLarge` for more rows than ever pass at once.
        """
        limits, tenant = self.limits, self.tenant
        if limits is None or tenant is None:
            return
        try:
            limits.charge(tenant, deployment.model, rows, limits.clock.monotonic(), counted=self.metered)
        except PenstockError as error:
            deployment.refused(error)
            raise
        self.metered = True


def read_terms(
    headers: Mapping[bytes, bytes],
    peer: bytes,
    limits: RateLimits | None = None,
    rights: Rights | None = None,
) -> Terms:
    """The terms in `headers`, whose names are in lower case; `peer` is the caller's address.

    Where there are `limits`, they tell who it is; `rights`, what it is believed.

    Raises `InvalidInput` as `SaidTerms.read` does.
    """
    tenant = limits.identify(headers, peer) if limits is not None else None
    granted = rights.of(headers, peer, tenant) if rights is not None else OF_ANYBODY
    return Terms(SaidTerms.read(headers), peer, granted, limits, tenant)


def parse_timeout_s(text: str, name: str = "x-request-timeout-ms") -> float:
    """What a header says in milliseconds, in seconds. Raises `InvalidInput`."""
    timeout_ms = float("nan")
    with contextlib.suppress(ValueError):
        timeout_ms = float(text)
    if not timeout_ms > 0:
        raise InvalidInput(f"{name} is {shown(text)}, not a number of milliseconds above 0", where=name)
    return timeout_ms / 1000.0


def _is_retry(headers: Mapping[bytes, bytes]) -> bool:
    """Raises `InvalidInput` for what the caller says and is no number. A proxy's word is not its fault."""
    retries = headers.get(RETRY)
    if retries is not None:
        digits = retries.strip()
        if not digits.isdigit():
            raise InvalidInput(
                f"{RETRY.decode()} is {shown(retries.decode('latin-1'))}, not how often it was tried before",
                where=RETRY.decode(),
                hint="leave it out of the first attempt, or send 0, and 1 with the first retry",
            )
        if digits.strip(b"0"):
            return True
    attempt = headers.get(ENVOY_ATTEMPT, b"")
    return attempt.isdigit() and attempt.lstrip(b"0") not in (b"", b"1")


def _rows(tensors: Mapping[str, Array]) -> int:
    """The rows of inputs that nobody has held against a signature yet; one at least."""
    return max((array.shape[0] if array.ndim else 1 for array in tensors.values()), default=1) or 1
