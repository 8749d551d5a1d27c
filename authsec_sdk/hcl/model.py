"""What a configuration file says, as a tree: bodies of attributes, lists and scalars, each with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from authsec_sdk.errors import ConfigurationError

MAXIMUM_DEPTH = 64
"""Blocks and lists inside each other; SPIRE's own files need seven."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file, both counted from 1; the column counts characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number or boolean. `text` is what stood there: unquoted for strings, as written for the rest."""

    value: str | int | float | bool
    text: str
    position: Position

    @property
    def kind(self) -> str:
        """What it is, for an error message."""
        if isinstance(self.value, bool):
            return "a boolean"
        return "a string" if isinstance(self.value, str) else "a number"


@dataclass(frozen=True, slots=True)
class ListValue:
    """A list."""

    items: "tuple[Value, ...]"
    position: Position
    kind: str = "a list"


@dataclass(frozen=True, slots=True)
class Attribute:
    """A key and its value. A block's labels are keys of bodies inside each other, as they are in the JSON form."""

    key: str
    value: "Value"
    position: Position


@dataclass(frozen=True, slots=True)
class Body:
    """A file, or a block of one: attributes in their order, a key as often as it stood there."""

    attributes: tuple[Attribute, ...]
    position: Position
    file: str
    kind: str = "a block"

    def __iter__(self) -> Iterator[Attribute]:
        return iter(self.attributes)

    def error(self, message: str, position: Position | None = None) -> ConfigurationError:
        """An error that points into this file."""
        place = position or self.position
        return ConfigurationError(message, self.file, place.line, place.column)


Value: TypeAlias = Scalar | ListValue | Body
