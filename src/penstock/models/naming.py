"""Names of models and aliases, and references to versions: `late`, `late:3`, `late@champion`."""

import re

import msgspec

from penstock.core.errors import InvalidInput, shown

__all__ = ["CHAMPION", "NUMBER_MAX", "Reference", "check_alias", "check_model_name"]

CHAMPION = "champion"
"""The alias that a model's name alone means, where it is set."""

NUMBER_MAX = 2**31 - 1
"""The last number that a version can have: what an integer column holds in every database."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_RULE = "1 to 128 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"


def check_model_name(name: str) -> None:
    """Raises `InvalidInput` unless `name` can name a model."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{shown(name)} cannot name a model", where="model", hint=f"a model's name is {_RULE}"
        )


def check_alias(alias: str) -> None:
    """Raises `InvalidInput` unless `alias` can be an alias: as a model's name, but not digits alone."""
    if not _NAME.fullmatch(alias) or alias.isdigit():
        raise InvalidInput(
            f"{shown(alias)} cannot be an alias", where="alias", hint=f"an alias is {_RULE}, not digits alone"
        )


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference names: a model's version by number or by alias, or neither: what the model serves."""

    model: str
    number: int | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """A reference from its notation: `late`, `late:3` (a number) or `late@champion` (an alias).

        Raises `InvalidInput` with the text and how to write it.
        """
        model, colon, number = text.partition(":")
        if colon:
            check_model_name(model)
            if not _NUMBER.fullmatch(number) or int(number) > NUMBER_MAX:
                raise InvalidInput(
                    f"{shown(text)}: {shown(number)} is not a version's number",
                    where="version",
                    hint=f"write {model}:3 for a number and {model}@{CHAMPION} for an alias",
                )
            return cls(model=model, number=int(number))
        model, at, alias = text.partition("@")
        check_model_name(model)
        if at:
            check_alias(alias)
            return cls(model=model, alias=alias)
        return cls(model=model)

    def describe(self) -> str:
        """The reference in its notation."""
        if self.number is not None:
            return f"{self.model}:{self.number}"
        return f"{self.model}@{self.alias}" if self.alias is not None else self.model
