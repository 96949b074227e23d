"""Rows in any of the four forms, decoded without haste: what is wrong is told field by field."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.core.errors import InvalidInput, shown
from penstock.core.signature import ANY, Signature
from penstock.core.tensors import Tensors
from penstock.serving.protocols.rows.cells import described, to_array
from penstock.serving.protocols.rows.fields import FieldErrors
from penstock.serving.protocols.rows.typed import is_matrix

__all__ = ["FORMS", "LenientRows"]

log = logging.getLogger(__name__)

FORMS = ("dataframe_records", "dataframe_split", "instances", "inputs")
_HINT = f"send a JSON object with exactly one of {', '.join(FORMS)}"

_decode = msgspec.json.Decoder().decode


class LenientRows:
    """Decodes requests for one signature."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._names = list(self._specs)
        self._spec = signature.inputs[0]
        self._matrix = is_matrix(signature)
        taken = ", ".join(f"{spec.name} {spec.describe()}" for spec in signature.inputs)
        self._hint = f"the model takes {taken}"
        self._told = False

    def decode(self, body: bytes) -> tuple[Tensors, bool]:
        """The tensors, and whether they came in columns. Raises `InvalidInput` and `InvalidRows`."""
        message = _json(body, "the body")
        if not isinstance(message, dict):
            raise InvalidInput(f"the body is {described(message)}, not an object", where="body", hint=_HINT)
        forms = [form for form in FORMS if form in message]
        unknown = [name for name in message if name not in FORMS and name != "params"]
        if len(forms) != 1 or unknown:
            said = (
                f"{shown(unknown[0])} is none of the forms" if unknown else f"the body has {len(forms)} forms"
            )
            raise InvalidInput(f"{said} that rows come in", where=(unknown or ["body"])[0][:80], hint=_HINT)
        self.pass_over(message.get("params"))
        (form,) = forms
        match form:
            case "dataframe_split":
                return self._split(message[form]), False
            case "inputs":
                return self._inputs(message[form]), True
            case _:
                return self._rows(_list(message[form], form), form), False

    def pass_over(self, params: Any) -> None:
        """Ignores `params` as MLflow's own server does for models without any, and says so once in the log:
        clients that send the same ones to every model keep working. Raises `InvalidInput` for what is none.
        """
        if params is not None and not isinstance(params, dict):
            raise InvalidInput(f"params is {described(params)}, not an object", where="params")
        if params and not self._told:
            self._told = True
            log.warning(
                "params of invocations are ignored, here %s: no model takes any", shown(next(iter(params)))
            )

    def decode_lines(self, lines: Sequence[bytes]) -> Tensors:
        """The rows of NDJSON lines. Raises `InvalidInput` and `InvalidRows`."""
        return self._rows([_json(line, "the line") for line in lines], "line")

    def _rows(self, rows: list[Any], form: str) -> Tensors:
        """Rows as lists, as records by column, or as scalars where the model takes one column."""
        records = sum(isinstance(row, dict) for row in rows)
        if records and records == len(rows):
            return self._records(rows)
        if records or form == "dataframe_records":
            row = next(index for index, row in enumerate(rows) if not isinstance(row, dict)) if rows else 0
            got = described(rows[row]) if rows else "no row"
            raise InvalidInput(f"{form}, row {row}: expected an object by column, got {got}", where=form)
        if self._matrix or (len(self._names) == 1 and not any(isinstance(row, list) for row in rows)):
            return self._cells({self._names[0]: rows})
        return self._positions(self._names, rows)

    def _records(self, rows: list[dict[str, Any]]) -> Tensors:
        names = self._names
        if self._matrix and list(rows[0]) != names:
            names = self._matrix_columns(list(rows[0]))
        errors = FieldErrors()
        wanted = set(names)
        for index, row in enumerate(rows):
            if row.keys() != wanted:
                for name in [name for name in names if name not in row]:
                    errors.add(index, name, self._expected(name), "nothing")
                for name in [name for name in row if name not in wanted]:
                    errors.add(index, name, "no such column", described(row[name]))
            if errors.full:
                break
        errors.raise_if_any(self._hint)
        return self._by_name(names, [[row[name] for name in names] for row in rows])

    def _split(self, split: Any) -> Tensors:
        if not isinstance(split, dict) or not {"columns", "data"} <= split.keys() <= {
            "columns",
            "data",
            "index",
        }:
            raise InvalidInput(
                f"dataframe_split is {described(split)}, not an object of columns and data",
                where="dataframe_split",
                hint='it looks like {"columns": ["a", "b"], "data": [[1, 2], [3, 4]]}',
            )
        columns = _list(split["columns"], "dataframe_split.columns")
        rows = _list(split["data"], "dataframe_split.data")
        names = [str(name) if isinstance(name, int) else name for name in columns]
        for name in names:
            if not isinstance(name, str):
                raise InvalidInput(
                    f"dataframe_split.columns: expected names, got {described(name)}",
                    where="dataframe_split.columns",
                )
        if len(set(names)) != len(names):
            seen: set[str] = set()
            twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise InvalidInput(f"column {shown(twice)} is given twice", where=twice[:80])
        if self._matrix and names != self._names:
            ordered = self._matrix_columns(names)
        else:
            if set(names) != set(self._names):
                raise self._misnamed(names)
            ordered = self._names
        rows = self._checked(names, rows)
        if ordered != names:
            places = {name: index for index, name in enumerate(names)}
            order = [places[name] for name in ordered]
            rows = [[row[index] for index in order] for row in rows]
        return self._by_name(ordered, rows)

    def _inputs(self, inputs: Any) -> Tensors:
        if isinstance(inputs, dict):
            if inputs.keys() != self._specs.keys():
                raise self._misnamed(list(inputs))
            return self._cells({name: _list(inputs[name], name) for name in self._names})
        if len(self._names) > 1:
            raise InvalidInput(
                f"inputs: expected an object by input name, got {described(inputs)}",
                where="inputs",
                hint=self._hint,
            )
        return self._cells({self._names[0]: _list(inputs, "inputs")})

    def _matrix_columns(self, names: list[str]) -> list[str]:
        """The names of a matrix's columns in its order: as they come, or by number. Raises `InvalidRows`."""
        axes = self._spec.shape[1:]
        if len(axes) != 1:
            raise InvalidInput(
                f"{shown(self._spec.name)} has {len(axes)} axes beyond the rows, more than a frame of "
                f"{len(names)} columns",
                where=self._spec.name,
                hint=f"send one column {shown(self._spec.name)} of nested lists, or `inputs`",
            )
        if axes[0] not in (ANY, len(names)):
            errors = FieldErrors()
            errors.add(None, self._spec.name, f"{axes[0]} columns", f"{len(names)}")
            errors.raise_if_any(self._hint)
        numbers = [str(index) for index in range(len(names))]
        return numbers if set(numbers) == set(names) else names

    def _positions(self, names: list[str], rows: list[Any]) -> Tensors:
        return self._by_name(names, self._checked(names, rows))

    def _checked(self, names: list[str], rows: list[Any]) -> list[list[Any]]:
        """The rows, each of which is a list as long as there are columns. Raises `InvalidRows`."""
        errors = FieldErrors()
        for index, row in enumerate(rows):
            if not isinstance(row, list) or len(row) != len(names):
                first = names[len(row)] if isinstance(row, list) and len(row) < len(names) else "row"
                errors.add(index, first, f"a list of {len(names)}", described(row))
            if errors.full:
                break
        errors.raise_if_any(self._hint)
        return rows

    def _by_name(self, names: list[str], rows: list[list[Any]]) -> Tensors:
        """Tensors from rows with a cell for each of `names`."""
        if self._matrix and names != self._names:
            return self._cells({self._names[0]: rows}, names)
        return self._cells({name: [row[index] for row in rows] for index, name in enumerate(names)})

    def _cells(self, cells: Mapping[str, list[Any]], labels: list[str] | None = None) -> Tensors:
        errors = FieldErrors()
        tensors: Tensors = {}
        for name, spec in self._specs.items():
            array = to_array(cells[name], spec, errors, labels)
            if array is not None:
                tensors[name] = array
        errors.raise_if_any(self._hint)
        return tensors

    def _expected(self, name: str) -> str:
        spec = self._specs.get(name)
        return "a value, as in the rows before" if spec is None else spec.describe()

    def _misnamed(self, names: list[str]) -> InvalidInput:
        errors = FieldErrors()
        for name in self._names:
            if name not in names:
                errors.add(None, name, self._expected(name), "nothing")
        for name in names:
            if name not in self._specs:
                errors.add(None, name, "no such column", "one")
        try:
            errors.raise_if_any(self._hint)
        except InvalidInput as error:
            return error
        raise AssertionError("the names are right")


def _json(content: bytes, what: str) -> Any:
    try:
        return _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        found = _json_with_nan(content)
        if found is None:
            raise InvalidInput(f"{what} is not JSON: {error}", where="body") from None
        return found
    except RecursionError:
        raise InvalidInput(f"{what} is nested too deeply", where="body") from None


def _json_with_nan(content: bytes) -> Any:
    """What Python's own encoder, and so MLflow's client, makes of NaN and infinity; None: it is not that.

    Python's decoder takes halves of surrogate pairs, which no model and no answer could write down again.
    """
    if b"NaN" not in content and b"Infinity" not in content:
        return None
    try:
        found = json.loads(content)
        if b"\\u" in content:
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError):
        return None


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidInput(f"{shown(where)}: expected a list, got {described(value)}", where=where[:80])
    return value
