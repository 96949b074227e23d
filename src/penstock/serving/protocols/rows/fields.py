"""What is wrong with rows that were sent, field by field."""

import msgspec

from penstock.core.errors import InvalidInput, shown

__all__ = ["FIELDS_MAX", "FieldError", "FieldErrors", "InvalidRows"]

FIELDS_MAX = 10
"""As many errors are told of at once; reading stops at the last of them."""


class FieldError(msgspec.Struct, frozen=True, kw_only=True):
    """One field that does not fit. `row` counts from 0, None: the column as a whole."""

    row: int | None
    column: str
    expected: str
    got: str

    @property
    def text(self) -> str:
        place = f"column {shown(self.column)}" if self.row is None else f"row {self.row}, {shown(self.column)}"
        return f"{place}: expected {self.expected}, got {self.got}"


class InvalidRows(InvalidInput):
    """Rows that do not fit the model's signature; `fields` has the first mistakes in them."""

    def __init__(self, fields: tuple[FieldError, ...], *, hint: str | None = None) -> None:
        first, *more = fields
        said = f" (and {len(more)} more)" if more else ""
        super().__init__(f"{first.text}{said}", where=first.column, hint=hint)
        self.fields = fields


class FieldErrors:
    """Collects what is wrong, up to `FIELDS_MAX`."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: list[FieldError] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def full(self) -> bool:
        return len(self._found) >= FIELDS_MAX

    def add(self, row: int | None, column: str, expected: str, got: str) -> None:
        if not self.full:
            self._found.append(FieldError(row=row, column=column[:80], expected=expected, got=got))

    def raise_if_any(self, hint: str | None = None) -> None:
        """Raises `InvalidRows` where anything was found."""
        if self._found:
            raise InvalidRows(tuple(self._found), hint=hint)
