"""V2's model repository extension: what could be served, and clients that decide what is."""

from typing import Any

import msgspec

from penstock.core.errors import InvalidInput
from penstock.serving.instance import Instance, ModelState
from penstock.serving.protocols.http.messages import HttpRequest
from penstock.serving.protocols.http.responder import Responder, no_such_path, require_method
from penstock.serving.protocols.v2.parameters import version_of

__all__ = ["V2Repository"]


class _IndexRequest(msgspec.Struct):
    ready: bool = False


class _ControlRequest(msgspec.Struct):
    parameters: dict[str, Any] | None = None


_index_decoder = msgspec.json.Decoder(_IndexRequest)
_control_decoder = msgspec.json.Decoder(_ControlRequest)


class V2Repository:
    """Answers what is under `/v2/repository`."""

    def __init__(self, instance: Instance, responder: Responder) -> None:
        self._instance = instance
        self._responder = responder

    def route(self, request: HttpRequest, path: list[str]) -> None:
        """`path` is what follows `/v2/repository`. Raises what is known to be wrong before it is begun."""
        match path:
            case ["index"]:
                require_method(request, "POST")
                ready = _decode(_index_decoder, request.body, _IndexRequest).ready
                self._responder.respond_later(request, self._index(request, ready_only=ready))
            case ["models", model, "load"]:
                require_method(request, "POST")
                version = _version(request.body, ("version",))
                self._responder.respond_later(request, self._load(request, model, version))
            case ["models", model, "unload"]:
                require_method(request, "POST")
                version = _version(request.body, ("version", "unload_dependents"))
                self._responder.respond_later(request, self._unload(request, model, version))
            case _:
                raise no_such_path("/".join(("/v2/repository", *path)))

    async def _index(self, request: HttpRequest, *, ready_only: bool) -> None:
        entries = [
            {"name": each.name, "version": each.version, "state": each.state.value, "reason": each.reason}
            for each in await self._instance.index()
            if each.state is ModelState.READY or not ready_only
        ]
        self._responder.respond(request, 200, entries)

    async def _load(self, request: HttpRequest, model: str, version: str | None) -> None:
        await self._instance.load(model, version)
        self._responder.respond(request, 200, {"name": model, "load": True})

    async def _unload(self, request: HttpRequest, model: str, version: str | None) -> None:
        await self._instance.unload(model, version)
        self._responder.respond(request, 200, {"name": model, "unload": True})


def _decode(decoder: "msgspec.json.Decoder[Any]", body: bytes, empty: type[msgspec.Struct]) -> Any:
    """The message in the body, which may be empty."""
    if not body.strip():
        return empty()
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the request is not one of the repository extension: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the body is not JSON: {error}", where="body") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deeply", where="body") from None


def _version(body: bytes, known: tuple[str, ...]) -> str | None:
    return version_of(_decode(_control_decoder, body, _ControlRequest).parameters or {}, known)
