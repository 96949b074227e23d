"""The standard health service (grpc.health.v1), which follows the readiness of the instance."""

import asyncio
import contextlib
from typing import Any

from penstock.core.errors import NotFound, shown
from penstock.serving.instance import Instance
from penstock.serving.protocols.grpc.receiver import Receiver

__all__ = ["HEALTH", "INFERENCE", "Health"]

HEALTH = "grpc.health.v1.Health"
INFERENCE = "inference.GRPCInferenceService"
WATCH_EVERY_S = 0.25
"""How often readiness is looked at for those who watch it: it is asked for, nobody tells of it."""


class Health:
    """Answers for the whole server (no name) and for inference."""

    def __init__(self, instance: Instance, receiver: Receiver, messages: Any) -> None:
        self._instance = instance
        self._receiver = receiver
        self._messages = messages
        self._status = messages.HealthCheckResponse.ServingStatus
        self._retired = False
        self._ended = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether requests are wanted."""
        return not self._retired and self._instance.ready

    def retire(self) -> None:
        """Not serving from now on, whatever the instance says."""
        self._retired = True

    def close(self) -> None:
        """Those who watch are told for the last time."""
        self.retire()
        self._ended.set()

    async def check(self, request: Any) -> Any:
        """Raises `NotFound` for a service that is not here."""
        status = self._of(request.service)
        if status == self._status.SERVICE_UNKNOWN:
            raise NotFound(f"no service {shown(request.service)}", hint=f"ask for '' or {INFERENCE!r}")
        return self._messages.HealthCheckResponse(status=status)

    async def watch(self, _messages: object, context: Any) -> None:
        """Sends the status at once, and whenever it has changed, until the client or the server leaves."""
        request = self._messages.HealthCheckRequest.FromString(await self._receiver.receive(context))
        told: Any = None
        while True:
            ending = self._ended.is_set()
            status = self._of(request.service)
            if status != told:
                told = status
                await context.write(self._messages.HealthCheckResponse(status=status).SerializeToString())
            if ending:
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S):
                    await self._ended.wait()

    def _of(self, service: str) -> Any:
        if service not in ("", INFERENCE):
            return self._status.SERVICE_UNKNOWN
        return self._status.SERVING if self.ready else self._status.NOT_SERVING
