"""Reads the JSON form of HCL 1 into the same tree: objects are blocks, lists of objects are blocks that repeat."""

import json
import math
import re

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl.model import MAXIMUM_DEPTH, Attribute, Body, ListValue, Position, Scalar, Value

_SPACE = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?(?![\w.])", re.ASCII)
_WORD = re.compile(r"true|false|null")
_MAXIMUM_NUMBER = 64


def parse_json(text: str, file: str) -> Body:
    """Read HCL in its JSON form; a key whose value is null counts as not there.

    Raises:
        ConfigurationError: with the place of the first thing that is not JSON, or the second of two equal keys.
    """
    parser = _Parser(text, file)
    return parser.document()


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer(r"\n", text))]
        self._line = 0

    def document(self) -> Body:
        """The one object the text is."""
        self._skip()
        body = self._object(1)
        self._skip()
        if self._at != len(self._text):
            raise self._error("something follows the closing '}'")
        return body

    def _object(self, depth: int) -> Body:
        opening = self._open("{", depth)
        found: list[Attribute] = []
        seen: dict[str, Position] = {}
        while not self._accept("}"):
            if found or seen:
                self._expect(",", "expected ',' or '}'")
            position = self._place()
            key = self._string("expected a key in quotes")
            if key in seen:
                raise self._error(f"{key!r} was set in line {seen[key].line} already", position)
            seen[key] = position
            self._expect(":", f"expected ':' after key {key!r}")
            value = self._value(depth)
            if value is not None:
                found.append(Attribute(key, value, position))
        return Body(tuple(found), opening, self._file)

    def _list(self, depth: int) -> ListValue:
        opening = self._open("[", depth)
        items: list[Value] = []
        while not self._accept("]"):
            if items:
                self._expect(",", "expected ',' or ']'")
            position = self._place()
            value = self._value(depth)
            if value is None:
                raise self._error("null has no meaning in a list", position)
            items.append(value)
        return ListValue(tuple(items), opening)

    def _value(self, depth: int) -> Value | None:
        position = self._place()
        following = self._text[self._at : self._at + 1]
        if following == "{":
            return self._object(depth + 1)
        if following == "[":
            return self._list(depth + 1)
        if following == '"':
            text = self._string("expected a string")
            return Scalar(text, text, position)
        if match := _WORD.match(self._text, self._at):
            self._at = match.end()
            return None if match.group() == "null" else Scalar(match.group() == "true", match.group(), position)
        if match := _NUMBER.match(self._text, self._at):
            return self._number(match, position)
        raise self._error("expected a value")

    def _number(self, match: re.Match[str], position: Position) -> Scalar:
        text = match.group()
        if len(text) > _MAXIMUM_NUMBER:
            raise self._error("a number is too long")
        number = float(text) if match.group(1) or match.group(2) else int(text)
        if math.isinf(number):
            raise self._error("a number is too large")
        self._at = match.end()
        return Scalar(number, text, position)

    def _string(self, otherwise: str) -> str:
        self._skip()
        match = _STRING.match(self._text, self._at)
        if not match:
            raise self._error(f"{otherwise}; a string is closed on its line")
        try:
            text = json.loads(match.group())
        except ValueError:
            raise self._error("a string holds an unknown escape") from None
        self._at = match.end()
        assert isinstance(text, str)
        # A lone surrogate, which JSON can spell, is no text.
        if not text.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in text):
            raise self._error("a string holds half a surrogate pair")
        return text

    def _open(self, bracket: str, depth: int) -> Position:
        position = self._place()
        if depth > MAXIMUM_DEPTH:
            raise self._error(f"more than {MAXIMUM_DEPTH} blocks and lists inside each other")
        self._expect(bracket, f"expected '{bracket}'")
        return position

    def _accept(self, character: str) -> bool:
        self._skip()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _expect(self, character: str, otherwise: str) -> None:
        if not self._accept(character):
            raise self._error(otherwise)

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _place(self) -> Position:
        self._skip()
        while self._line + 1 < len(self._starts) and self._starts[self._line + 1] <= self._at:
            self._line += 1
        return Position(self._line + 1, self._at - self._starts[self._line] + 1)

    def _error(self, message: str, position: Position | None = None) -> ConfigurationError:
        place = position or self._place()
        return ConfigurationError(message, self._file, place.line, place.column)
