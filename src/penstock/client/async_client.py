"""The client for programs with asyncio."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import quote

from penstock.client.endpoints import Endpoints
from penstock.client.errors import BadAnswer, CallRejected
from penstock.client.hedging import HedgePolicy
from penstock.client.jobs import AsyncJob, job_headers
from penstock.client.messages import (
    Answer,
    GarbledAnswer,
    ModelMetadata,
    decode_answer,
    decode_metadata,
    encode_request,
)
from penstock.client.pool import ConnectionSettings
from penstock.client.retrying import RetryPolicy
from penstock.client.sending import READY_PATH, ClientStatistics, Message, Sender, Sent
from penstock.core.calling import Criticality, inherited_criticality, inherited_deadline_s
from penstock.core.clock import SystemClock
from penstock.core.errors import InvalidInput, shown
from penstock.core.rng import unique_token, unit_random

__all__ = ["AsyncClient"]

TIMEOUT_S_MAX = 86_400.0
SIGNATURES_MAX = 1024


class AsyncClient:
    """Asks models at one or several Penstock servers (or any that speak V2 over HTTP with binary tensors).

    `timeout_s` is what a call may take, retries and pauses included, unless it says otherwise. A client belongs
    to the event loop in which it is first used; there any number of tasks may share it. Nothing is connected
    before the first call.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        timeout_s: float = 30.0,
        api_key: str | None = None,
        retry: RetryPolicy | None = None,
        hedge: HedgePolicy | None = None,
        connection: ConnectionSettings | None = None,
    ) -> None:
        self._timeout_s = _checked_timeout_s(timeout_s)
        self._clock = SystemClock()
        self._sender = Sender(
            Endpoints([urls] if isinstance(urls, str) else urls, unit_random),
            retry=retry or RetryPolicy(),
            hedge=hedge,
            connection=connection or ConnectionSettings(),
            clock=self._clock,
            draw=unit_random,
        )
        self._headers = "" if api_key is None else f"x-api-key: {_checked_key(api_key)}\r\n"
        self._metadata: dict[tuple[str, str | None], ModelMetadata] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def infer(  # noqa: PLR0913 - what one call may say; a settings object for it would be harder to read
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        criticality: str | int | None = None,
        id: str | None = None,  # noqa: A002 - V2 calls it so
    ) -> Answer:
        """The model's answer. `inputs` are arrays, lists or columns by name, with the rows first.

        The call ends by `timeout_s`, the client's own if None, or by an earlier `penstock.client.deadline`
        around it; criticality is that of `penstock.client.criticality` unless it is given. Raises
        `InvalidInput` for inputs that are not the model's, and `CallFailed`.
        """
        deadline_s = self._deadline_s(timeout_s)
        level = inherited_criticality() if criticality is None else Criticality.parse(criticality)
        headers = (
            self._headers if level is None else f"{self._headers}x-criticality: {Criticality(level).name}\r\n"
        )

        async def ask(metadata: ModelMetadata) -> Sent:
            body = encode_request(metadata.inputs, inputs, outputs=outputs, id=id)
            message = _inference(model, version, headers, body, hedged=True)
            return await self._sender.request(message, deadline_s)

        sent = await self._ask_known(ask, model, version, deadline_s)
        try:
            return decode_answer(sent.response.body, sent.response.headers)
        except GarbledAnswer as error:
            raise _garbled(sent, error) from None

    async def submit(  # noqa: PLR0913 - as infer
        self,
        model: str,
        inputs: Mapping[str, object],
        *,
        version: str | int | None = None,
        outputs: Sequence[str] | None = None,
        timeout_s: float | None = None,
        key: str | None = None,
        expires_s: float | None = None,
        webhook: str | None = None,
    ) -> AsyncJob:
        """A job that answers the same later. It is durable once this returns.

        `key` is your own name for it: the same request under the same key is the same job, however often it is
        submitted; one is made up if it is None. `expires_s` is how long the job may wait before its answer is
        of no use, `webhook` a URL that is told of its end. `timeout_s` is for submitting alone. Raises
        `InvalidInput` and `CallFailed`; of status 422 for a key that stands for another request.
        """
        deadline_s = self._deadline_s(timeout_s)
        headers = self._headers + job_headers(unique_token() if key is None else key, expires_s, webhook)

        async def ask(metadata: ModelMetadata) -> Sent:
            body = encode_request(metadata.inputs, inputs, outputs=outputs)
            return await self._sender.request(_inference(model, version, headers, body), deadline_s)

        sent = await self._ask_known(ask, model, version, deadline_s)
        return AsyncJob(self._ask_job, sent, self._clock)

    def job(self, id: str) -> AsyncJob:  # noqa: A002 - what it is called in answers
        """The job with this id, submitted by whichever process. It is looked for when it is asked something."""
        return AsyncJob(self._ask_job, id, self._clock)

    async def metadata(
        self, model: str, version: str | int | None = None, *, timeout_s: float | None = None
    ) -> ModelMetadata:
        """What the model takes and gives, asked anew. Raises `CallFailed`; of status 404 for no such model."""
        return await self._fetch(model, version, self._deadline_s(timeout_s))

    async def ready(
        self, model: str | None = None, version: str | int | None = None, *, timeout_s: float | None = None
    ) -> bool:
        """Whether any of the servers is ready, for this model if one is named. Raises nothing for those that
        are not, or cannot be reached.
        """
        path = READY_PATH if model is None else f"{_model_path(model, version)}/ready"
        deadline_s = self._deadline_s(timeout_s)
        self._check_loop()
        return await self._sender.ready(path, deadline_s)

    def statistics(self) -> ClientStatistics:
        return self._sender.statistics()

    async def aclose(self) -> None:
        """Ends its connections; calls under way fail."""
        self._closed = True
        await self._sender.close()

    async def _ask_job(self, method: str, path: str, timeout_s: float | None) -> Sent:
        self._check_loop()
        message = Message(method=method, path=path, headers=self._headers)
        return await self._sender.request(message, self._deadline_s(timeout_s))

    async def _ask_known(
        self,
        ask: Callable[[ModelMetadata], Awaitable[Sent]],
        model: str,
        version: str | int | None,
        deadline_s: float,
    ) -> Sent:
        """Asks by the signature that is known; where it may have changed with the version, by a fresh one."""
        known = self._metadata.get((model, _text(version)))
        if known is None:
            return await ask(await self._fetch(model, version, deadline_s))
        self._check_loop()
        try:
            return await ask(known)
        except (CallRejected, InvalidInput) as error:
            if isinstance(error, CallRejected) and error.status not in (400, 404):
                raise
            fresh = await self._fetch(model, version, deadline_s)
            if fresh.inputs == known.inputs:
                raise
            return await ask(fresh)

    async def _fetch(self, model: str, version: str | int | None, deadline_s: float) -> ModelMetadata:
        self._check_loop()
        message = Message(method="GET", path=_model_path(model, version), headers=self._headers)
        sent = await self._sender.request(message, deadline_s)
        try:
            metadata = decode_metadata(sent.response.body)
        except GarbledAnswer as error:
            raise _garbled(sent, error) from None
        if len(self._metadata) >= SIGNATURES_MAX:
            self._metadata.clear()
        self._metadata[model, _text(version)] = metadata
        return metadata

    def _deadline_s(self, timeout_s: float | None) -> float:
        within_s = self._timeout_s if timeout_s is None else _checked_timeout_s(timeout_s)
        deadline_s = self._clock.monotonic() + within_s
        inherited_s = inherited_deadline_s()
        return deadline_s if inherited_s is None else min(deadline_s, inherited_s)

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._closed:
            raise InvalidInput("this client is closed", hint="make another one")
        if self._loop is None:
            self._loop = loop
        if self._loop is not loop:
            raise InvalidInput(
                "this client belongs to another event loop", hint="make one for each, or use penstock.Client"
            )


def _inference(
    model: str, version: str | int | None, headers: str, encoded: tuple[bytes, int], *, hedged: bool = False
) -> Message:
    body, json_bytes = encoded
    headers += f"content-type: application/octet-stream\r\ninference-header-content-length: {json_bytes}\r\n"
    path = f"{_model_path(model, version)}/infer"
    return Message(method="POST", path=path, headers=headers, body=body, hedged=hedged)


def _text(version: str | int | None) -> str | None:
    return None if version is None else str(version)


def _model_path(model: str, version: str | int | None) -> str:
    named = "" if version is None else f"/versions/{quote(str(version), safe='')}"
    return f"/v2/models/{quote(model, safe='')}{named}"


def _checked_timeout_s(timeout_s: object) -> float:
    """At most a day: a call always ends. Raises `InvalidInput` for what is no number above 0."""
    if not isinstance(timeout_s, int | float) or not timeout_s > 0:
        raise InvalidInput(
            f"timeout_s is {shown(timeout_s)}", where="timeout_s", hint="give a number of seconds above 0"
        )
    return min(float(timeout_s), TIMEOUT_S_MAX)


def _checked_key(api_key: str) -> str:
    if not api_key or not api_key.isascii() or not api_key.isprintable():
        # Not shown: it is a secret even where it is a wrong one.
        raise InvalidInput("the API key is empty or has characters that no header can hold", where="api_key")
    return api_key


def _garbled(sent: Sent, error: GarbledAnswer) -> BadAnswer:
    return BadAnswer(
        f"{sent.url}: {error}",
        status=sent.response.status,
        reason="garbled",
        attempts=sent.attempts,
        url=sent.url,
        hint="is this URL a server that speaks V2?",
    )
