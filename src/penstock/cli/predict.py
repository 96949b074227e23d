"""`penstock predict`: ask a running server."""

import json
import math
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
import typer

from penstock.cli.options import JsonOption, server_url
from penstock.cli.output import print_json, print_table
from penstock.core.errors import InvalidInput, PenstockError, shown

__all__ = ["predict"]

TIMEOUT_S = 60.0
ROWS_PER_REQUEST = 1000


def predict(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model's name.")],
    data: Annotated[
        Path | None, typer.Option(help="Rows in a file: .parquet, .csv, .json, .ndjson, .npy …")
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(help='One row as JSON: {"column": value}, or a list of numbers.'),
    ] = None,
    version: Annotated[str | None, typer.Option(help="Ask this version.")] = None,
    url: Annotated[str | None, typer.Option(help="The server (default: where the settings have one).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a running server for predictions and print them, a row each."""
    if (data is None) == (row is None):
        raise InvalidInput("give either --data FILE or --row JSON")
    server = _Server(url or server_url())
    path = f"/v2/models/{name}" + (f"/versions/{version}" if version else "")
    metadata = server.call("GET", path)
    columns = _columns_of_file(data, metadata) if data is not None else _columns_of_row(row or "", metadata)
    rows = len(next(iter(columns.values())))
    answers: list[dict[str, Any]] = []
    for start in range(0, rows, ROWS_PER_REQUEST):
        part = {key: values[start : start + ROWS_PER_REQUEST] for key, values in columns.items()}
        try:
            answers += _rows(server.call("POST", f"{path}/infer", _request(part, metadata)))
        except PenstockError as error:
            if rows <= ROWS_PER_REQUEST:
                raise
            # The server counts from the beginning of each request.
            raise PenstockError(f"in the rows from {start} on: {error.message}", hint=error.hint) from None
    if as_json:
        print_json(answers)
    else:
        print_table(tuple(answers[0]), (tuple(answer.values()) for answer in answers))


class _Server:
    """A connection to a server; it says what went wrong in one line."""

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            # A port that is no number up to 65535, or half an IPv6 address.
            host, port = None, None
        if host is None or parts.scheme not in ("http", "https"):
            raise InvalidInput(f"{shown(url)} is not the URL of a server", hint="e.g. http://127.0.0.1:8000")
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._url = url
        self._connection = kind(host, port, timeout=TIMEOUT_S)

    def call(self, method: str, path: str, body: object | None = None) -> Any:
        content = None if body is None else msgspec.json.encode(body)
        try:
            self._connection.request(method, path, content, {"content-type": "application/json"})
            response = self._connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            raise PenstockError(
                f"no answer from {self._url}: {error}", hint="is it running? penstock run app.py"
            ) from error
        if response.status != 200:
            raise PenstockError(f"{self._url} answered {response.status}: {answer.get('error', answer)}")
        return answer


def _columns_of_file(file: Path, metadata: dict[str, Any]) -> dict[str, list[Any]]:
    """The rows by input: a list of values, or of rows of a matrix."""
    import numpy as np

    from penstock.models.samples import read_samples

    samples = read_samples(file)
    inputs = metadata["inputs"]
    if isinstance(samples, np.ndarray):
        if len(inputs) > 1:
            names = ", ".join(each["name"] for each in inputs)
            raise InvalidInput(f"{file} has no column names, and the model takes the columns {names}")
        return {inputs[0]["name"]: samples.tolist()}
    if len(inputs) == 1 and len(inputs[0]["shape"]) == 2:
        return {inputs[0]["name"]: [list(values) for values in samples.iter_rows()]}
    missing = [each["name"] for each in inputs if each["name"] not in samples.columns]
    if missing:
        raise InvalidInput(
            f"{file} has no columns {missing}", where=missing[0], hint=f"it has {', '.join(samples.columns)}"
        )
    return {each["name"]: samples[each["name"]].to_list() for each in inputs}


def _columns_of_row(row: str, metadata: dict[str, Any]) -> dict[str, list[Any]]:
    try:
        values = json.loads(row)
    except ValueError as error:
        raise InvalidInput(f"--row is not JSON: {error}", where="--row") from None
    inputs = metadata["inputs"]
    if isinstance(values, list) and len(inputs) == 1:
        return {inputs[0]["name"]: [values]}
    names = [each["name"] for each in inputs]
    if not isinstance(values, dict):
        raise InvalidInput(f"--row has to be an object with {', '.join(names)}", where="--row")
    if set(values) != set(names):
        missing = [name for name in names if name not in values]
        surplus = [name for name in values if name not in names]
        said = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has unknown {', '.join(surplus)}"] * bool(
            surplus
        )
        raise InvalidInput(
            f"--row {' and '.join(said)}", where="--row", hint=f"the model takes {', '.join(names)}"
        )
    return {name: [values[name]] for name in names}


def _request(columns: dict[str, list[Any]], metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "inputs": [
            {
                "name": each["name"],
                "datatype": each["datatype"],
                "shape": _shape(columns[each["name"]]),
                "data": columns[each["name"]],
            }
            for each in metadata["inputs"]
        ]
    }


def _shape(values: Any) -> list[int]:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return shape


def _rows(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """One dict a row from the answer's flat tensors."""
    count = answer["outputs"][0]["shape"][0]
    rows: list[dict[str, Any]] = [{} for _ in range(count)]
    for output in answer["outputs"]:
        width = math.prod(output["shape"][1:])
        for index, row in enumerate(rows):
            part = output["data"][index * width : (index + 1) * width]
            row[output["name"]] = part[0] if len(output["shape"]) == 1 else part
    return rows
