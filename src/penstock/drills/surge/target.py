"""Where the load goes: the server's URL, what its model takes, and bodies that fit."""

import ipaddress
import json
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import numpy as np

from penstock.client.messages import GarbledAnswer, decode_metadata, encode_request
from penstock.core.errors import Forbidden, InvalidInput, PenstockError, shown
from penstock.core.rng import Rng
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Array, DataType
from penstock.drills.surge.plan import Body, Target

__all__ = ["body_of_file", "make_bodies", "model_inputs", "parse_target", "try_body"]

ANSWER_BYTES_MAX = 16 * 1024 * 1024
BODIES_BYTES_MAX = 256 * 1024 * 1024
AXIS_ANY = 8
"""How long an axis of any length is made."""
TIMEOUT_S = 30.0
_JSON_SPACE = " \t\r\n"
"""Of JSON, that is: what else Python takes for space may be a tensor's bytes."""


def parse_target(url: str, model: str, *, version: str | None, allow_remote: bool) -> Target:
    """Raises `InvalidInput` for what is no URL of a server, and `Forbidden` for another machine's."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port = None, 0
    if host is None or parts.scheme not in ("http", "https"):
        raise InvalidInput(f"{shown(url)} is not the URL of a server", hint="e.g. http://127.0.0.1:8000")
    if parts.scheme == "https":
        raise InvalidInput(f"{shown(url)}: drills speak plain HTTP", hint="send the load past what ends TLS")
    if not (parts.path.isascii() and parts.path.isprintable()) or " " in parts.path:
        raise InvalidInput(f"{shown(url)}: its path cannot stand in a request", hint="write it percent-encoded")
    if parts.username is not None:
        raise InvalidInput("the URL has a user in it", hint="keys are given by --tenant and --api-key")
    if not allow_remote and not _is_loopback(host):
        raise Forbidden(
            f"{host} is another machine, and a surge can take it down",
            hint="--allow-remote, if it is yours and you mean it",
        )
    path = f"{parts.path.rstrip('/')}/v2/models/{quote(model, safe='')}"
    return Target(host=host, port=port, path=path + (f"/versions/{quote(version, safe='')}" if version else ""))


def model_inputs(target: Target) -> tuple[TensorSpec, ...]:
    """What the model takes, asked of the server. Raises `PenstockError`."""
    status, answer = _call(target, "GET", target.path, None, {})
    if status != 200:
        raise PenstockError(
            f"{target.host}:{target.port} answered {status}: {shown(answer[:300].decode('utf-8', 'replace'))}"
        )
    try:
        return decode_metadata(answer).inputs
    except GarbledAnswer as error:
        raise PenstockError(
            f"the model's metadata cannot be read: {error}", hint="is it a V2 server?"
        ) from None


def make_bodies(
    inputs: tuple[TensorSpec, ...], rng: Rng, *, count: int, rows: int, binary: bool
) -> tuple[Body, ...]:
    """Requests that fit, with values drawn; all different but by chance.

    Raises `InvalidInput` where they are more than the generators can hold.
    """
    bodies: list[Body] = []
    size_bytes = 0
    for _ in range(count):
        bodies.append(_encoded(inputs, {each.name: _values(each, rows, rng) for each in inputs}, binary))
        size_bytes += len(bodies[-1].content)
        if size_bytes > BODIES_BYTES_MAX:
            raise InvalidInput(
                f"{count:,} bodies of {len(bodies[-1].content):,} bytes pass {BODIES_BYTES_MAX:,} bytes",
                hint="fewer --bodies, or fewer --rows",
            )
    return tuple(bodies)


def body_of_file(file: Path) -> Body:
    """A V2 request as it stands: JSON, alone or with tensors in binary after it. Raises `InvalidInput`."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"the body {file} cannot be read: {error}", where="--body") from None
    # Bytes map to characters one to one, so that the end in characters is the end in bytes.
    text = content.decode("latin-1")
    begin = len(text) - len(text.lstrip(_JSON_SPACE))
    try:
        message, end = json.JSONDecoder().raw_decode(text, begin)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body {file} does not begin with JSON: {error}", where="--body") from None
    if not isinstance(message, dict) or "inputs" not in message:
        raise InvalidInput(f"the body {file} has no inputs", where="--body", hint="it has to be a V2 request")
    return Body(content=content, json_bytes=None if not text[end:].strip(_JSON_SPACE) else end)


def try_body(target: Target, body: Body, api_key: str) -> None:
    """Sends it once, so that a mistake in it is told before a surge of it. Raises `PenstockError`."""
    headers = {"content-type": "application/json"}
    if body.json_bytes is not None:
        headers = {
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(body.json_bytes),
        }
    if api_key:
        headers["x-api-key"] = api_key
    status, answer = _call(target, "POST", f"{target.path}/infer", body.content, headers)
    if status != 200:
        raise PenstockError(
            f"a first request was answered {status}: {shown(answer[:300].decode('utf-8', 'replace'))}",
            hint="give a request that the model accepts with --body FILE",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _call(
    target: Target, method: str, path: str, content: bytes | None, headers: dict[str, str]
) -> tuple[int, bytes]:
    connection = HTTPConnection(target.host, target.port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        return response.status, response.read(ANSWER_BYTES_MAX)
    except (OSError, HTTPException) as error:
        raise PenstockError(
            f"no answer from {target.host}:{target.port}: {error}", hint="is it running? penstock run app.py"
        ) from None
    finally:
        connection.close()


def _values(spec: TensorSpec, rows: int, rng: Rng) -> Array:
    axes = (rows if spec.shape[0] < 0 else spec.shape[0], *spec.shape[1:])
    shape = tuple(AXIS_ANY if axis < 0 else axis for axis in axes)
    if spec.datatype.is_object:
        letters = np.array(list("abcdefgh"), dtype=object)
        return letters[rng.integers(0, len(letters), shape)]
    if spec.datatype is DataType.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    if spec.datatype.is_float:
        return rng.random(shape).astype(spec.dtype)
    return rng.integers(0, 10, shape).astype(spec.dtype)


def _encoded(inputs: tuple[TensorSpec, ...], values: dict[str, Array], binary: bool) -> Body:
    if binary:
        content, json_bytes = encode_request(inputs, values)
        return Body(content=content, json_bytes=json_bytes)
    tensors: list[dict[str, Any]] = [
        {
            "name": each.name,
            "datatype": each.datatype.wire,
            "shape": values[each.name].shape,
            "data": values[each.name].ravel().tolist(),
        }
        for each in inputs
    ]
    return Body(content=msgspec.json.encode({"inputs": tensors}))
