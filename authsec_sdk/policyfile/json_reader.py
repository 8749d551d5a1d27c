"""JSON text into nodes that know their places; stricter than most readers, since others may read the same file."""

import bisect
import json
import re
from typing import Final, NoReturn

from authsec_sdk.authz.policy_document import InvalidPolicyError, Node, Problem
from authsec_sdk.authz.rules import Place

__all__ = ["Lines", "read_json", "refuse"]

MAX_DEPTH: Final = 12
"""Of lists and mappings in each other; a policy has six."""

MAX_DIGITS: Final = 18

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_NUMBER: Final = re.compile(r"-?[0-9.eE+-]+")


class Lines:
    """Turns offsets in a text into places."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, offset: int) -> Place:
        """Return the line and column of an offset."""
        line = bisect.bisect_right(self._starts, offset)
        return Place(line, offset - self._starts[line - 1] + 1)


def refuse(message: str, place: Place | None, key: str = "") -> NoReturn:
    """Raise the error that a reader raises: there is no document to speak of."""
    raise InvalidPolicyError((Problem(key, message, place),))


def read_json(text: str) -> Node:
    """Read one JSON value (RFC 8259).

    Raises:
        InvalidPolicyError: it is none, something follows it, a name comes twice in one object, a number is NaN,
            infinite or long, or lists and objects are in each other more than twelve deep.
    """
    return _Reader(text).document()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = Lines(text)
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)

    def document(self) -> Node:
        node, end = self._value(self._skip(0), 0)
        end = self._skip(end)
        if end != len(self._text):
            refuse("something follows the document", self._lines.place(end))
        return node

    def _skip(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        assert match is not None
        return match.end()

    def _next(self, at: int, wanted: str, what: str) -> int:
        if self._text[at : at + 1] != wanted:
            refuse(f"this is no JSON: {what}", self._lines.place(at))
        return self._skip(at + 1)

    def _value(self, at: int, depth: int) -> tuple[Node, int]:
        first = self._text[at : at + 1]
        if first in ("{", "["):
            if depth >= MAX_DEPTH:
                refuse("lists and objects are nested too deeply", self._lines.place(at))
            return self._object(at, depth + 1) if first == "{" else self._array(at, depth + 1)
        return self._scalar(at)

    def _object(self, start: int, depth: int) -> tuple[Node, int]:
        members: dict[str, tuple[Place, Node]] = {}
        at = self._skip(start + 1)
        while self._text[at : at + 1] != "}":
            if members:
                at = self._next(at, ",", "want a comma, or the end of the object")
            place = self._lines.place(at)
            if self._text[at : at + 1] != '"':
                refuse("this is no JSON: want a name in double quotes", place)
            name, end = self._scalar(at)
            assert isinstance(name.value, str)
            if name.value in members:
                refuse(f"{name.value[:80]!a} is given twice", place)
            at = self._next(self._skip(end), ":", "want a colon")
            value, end = self._value(at, depth)
            members[name.value] = (place, value)
            at = self._skip(end)
        return Node(members, self._lines.place(start)), at + 1

    def _array(self, start: int, depth: int) -> tuple[Node, int]:
        items: list[Node] = []
        at = self._skip(start + 1)
        while self._text[at : at + 1] != "]":
            if items:
                at = self._next(at, ",", "want a comma, or the end of the array")
            value, end = self._value(at, depth)
            items.append(value)
            at = self._skip(end)
        return Node(tuple(items), self._lines.place(start)), at + 1

    def _scalar(self, at: int) -> tuple[Node, int]:
        place = self._lines.place(at)
        number = _NUMBER.match(self._text, at)
        if number is not None and len(number[0]) > MAX_DIGITS:
            refuse("a number is too long", place)
        try:
            value, end = self._decoder.raw_decode(self._text, at)
        except json.JSONDecodeError as error:
            refuse(f"this is no JSON: {error.msg}", self._lines.place(min(error.pos, len(self._text))))
        except ValueError as error:
            refuse(f"this is no JSON: {error}", place)
        return Node(value, place), end


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
