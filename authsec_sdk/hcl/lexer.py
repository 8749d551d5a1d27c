"""Cuts the text of an HCL 1 file into tokens."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl.model import Position
from authsec_sdk.hcl.strings import BadEscapeError, unindent, unquote


class Kind(Enum):
    """Kinds of tokens; the values are what error messages call them."""

    NAME = "a name"
    STRING = "a string"
    NUMBER = "a number"
    FLOAT = "a fraction"
    BOOLEAN = "a boolean"
    HEREDOC = "a heredoc"
    LEFT_BRACE = "'{'"
    RIGHT_BRACE = "'}'"
    LEFT_BRACKET = "'['"
    RIGHT_BRACKET = "']'"
    COMMA = "','"
    ASSIGN = "'='"
    END = "the end of the file"


@dataclass(frozen=True, slots=True)
class Token:
    """A token: `text` as written, `value` with quotes, escapes and anchors taken away."""

    kind: Kind
    text: str
    value: str
    position: Position


_SPACE = re.compile(r"[ \t\r\n]+")
_COMMENT = re.compile(r"(?:\#|//)[^\n]*|/\*.*?\*/", re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w.\-]*")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)")
_HEREDOC = re.compile(r"<<(-?)(\w+)\r?\n")
_PUNCTUATION = {
    "{": Kind.LEFT_BRACE,
    "}": Kind.RIGHT_BRACE,
    "[": Kind.LEFT_BRACKET,
    "]": Kind.RIGHT_BRACKET,
    ",": Kind.COMMA,
    "=": Kind.ASSIGN,
}
_MAXIMUM_NUMBER = 64


class Lexer:
    """Iterates over the tokens of a text; the last is `END`.

    Raises:
        ConfigurationError: at the first character that belongs to no token.
    """

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._line = 1
        self._line_start = 0

    def __iter__(self) -> Iterator[Token]:
        while True:
            self._skip()
            token = self._next()
            yield token
            if token.kind is Kind.END:
                return

    def error(self, message: str, position: Position | None = None) -> ConfigurationError:
        """An error that points at the place given, or to where the lexer stands."""
        place = position or self._position()
        return ConfigurationError(message, self._file, place.line, place.column)

    def _position(self) -> Position:
        return Position(self._line, self._at - self._line_start + 1)

    def _advance(self, end: int) -> str:
        piece = self._text[self._at : end]
        newlines = piece.count("\n")
        if newlines:
            self._line += newlines
            self._line_start = self._at + piece.rindex("\n") + 1
        self._at = end
        return piece

    def _skip(self) -> None:
        while match := _SPACE.match(self._text, self._at) or _COMMENT.match(self._text, self._at):
            self._advance(match.end())

    def _next(self) -> Token:
        position = self._position()
        character = self._text[self._at : self._at + 1]
        if not character:
            return Token(Kind.END, "", "", position)
        if kind := _PUNCTUATION.get(character):
            return Token(kind, self._advance(self._at + 1), character, position)
        if character == '"':
            return self._string(position)
        if character == "<":
            return self._heredoc(position)
        if match := _NUMBER.match(self._text, self._at):
            return self._number(self._advance(match.end()), position)
        if match := _NAME.match(self._text, self._at):
            text = self._advance(match.end())
            return Token(Kind.BOOLEAN if text in ("true", "false") else Kind.NAME, text, text, position)
        if self._text.startswith("/*", self._at):
            raise self.error("a comment is not closed: '*/' is missing")
        raise self.error(f"unexpected character {character!r}")

    def _number(self, text: str, position: Position) -> Token:
        if len(text) > _MAXIMUM_NUMBER:
            raise self.error("a number is too long", position)
        following = self._text[self._at : self._at + 1]
        if following.isalnum() or following == "_":
            raise self.error(f"{text + following!r} is no number: put quotes around a text or duration", position)
        is_float = not text.lower().lstrip("-").startswith("0x") and any(mark in text for mark in ".eE")
        return Token(Kind.FLOAT if is_float else Kind.NUMBER, text, text, position)

    def _string(self, position: Position) -> Token:
        text = self._advance(self._string_end(position))
        try:
            value = unquote(text[1:-1])
        except BadEscapeError as error:
            raise self.error(str(error), Position(position.line, position.column + 1 + error.offset)) from None
        return Token(Kind.STRING, text, value, position)

    def _string_end(self, position: Position) -> int:
        at, braces, text = self._at + 1, 0, self._text
        while at < len(text):
            character = text[at]
            if character == "\n" and not braces:
                break
            if character == '"' and not braces:
                return at + 1
            if not braces and text.startswith("${", at):
                braces, at = 1, at + 1
            elif braces and character in "{}":
                braces += 1 if character == "{" else -1
            elif character == "\\":
                at += 1
            at += 1
        raise self.error("a string is not closed", position)

    def _heredoc(self, position: Position) -> Token:
        opening = _HEREDOC.match(self._text, self._at)
        if not opening:
            raise self.error("a heredoc begins with <<NAME or <<-NAME and a new line")
        dash, name = opening.groups()
        closing = re.compile(rf"^([ \t\v\f]*){re.escape(name)}\r*(?:\n|\Z)", re.MULTILINE).search(
            self._text, opening.end()
        )
        if not closing:
            raise self.error(f"a heredoc is not closed: there is no line that is just {name}", position)
        content = self._text[opening.end() : closing.start()]
        value = unindent(content, closing.group(1)) if dash else content
        return Token(Kind.HEREDOC, self._advance(closing.end()), value, position)
