"""Reads the tokens of an HCL 1 file into a tree."""

import math
from collections.abc import Iterator

from authsec_sdk.errors import ConfigurationError
from authsec_sdk.hcl.lexer import Kind, Lexer, Token
from authsec_sdk.hcl.model import MAXIMUM_DEPTH, Attribute, Body, ListValue, Position, Scalar, Value

_LITERALS = frozenset({Kind.STRING, Kind.HEREDOC, Kind.NUMBER, Kind.FLOAT, Kind.BOOLEAN})


def parse_native(text: str, file: str) -> Body:
    """Read HCL in its own syntax.

    Raises:
        ConfigurationError: with the place of the first thing that is not HCL 1, or the second of two equal arguments.
    """
    parser = _Parser(Lexer(text, file), file)
    return Body(parser.attributes(Kind.END, 0), Position(1, 1), file)


class _Parser:
    def __init__(self, lexer: Lexer, file: str) -> None:
        self._lexer = lexer
        self._file = file
        self._tokens: Iterator[Token] = iter(lexer)
        self._ahead = next(self._tokens)

    def attributes(self, end: Kind, depth: int) -> tuple[Attribute, ...]:
        """Everything up to `end`, which is taken too."""
        found: list[Attribute] = []
        assigned: dict[str, Position] = {}
        while self._kind() is not end:
            attribute, was_assigned = self._attribute(depth)
            if was_assigned:
                first = assigned.setdefault(attribute.key, attribute.position)
                if first != attribute.position:
                    raise self._error(
                        f"{attribute.key!r} was set in line {first.line} already; "
                        f"each argument can be defined only once",
                        attribute.position,
                    )
            found.append(attribute)
            if self._kind() is Kind.COMMA:
                self._take()
        if end is not Kind.END:
            self._take()
        return tuple(found)

    def _attribute(self, depth: int) -> tuple[Attribute, bool]:
        keys = [self._key()]
        while self._kind() in (Kind.NAME, Kind.STRING):
            keys.append(self._key())
        if self._kind() is Kind.ASSIGN:
            if len(keys) > 1:
                raise self._error("a block with labels takes no '=' before its '{'")
            self._take()
            return Attribute(keys[0].value, self._value(depth), keys[0].position), True
        if self._kind() is not Kind.LEFT_BRACE:
            name = " ".join(key.text for key in keys)
            raise self._error(f"key {name} must be followed by '=' or '{{', not by {self._kind().value}")
        value: Value = self._body(depth + len(keys))
        for key in reversed(keys[1:]):
            value = Body((Attribute(key.value, value, key.position),), key.position, self._file)
        return Attribute(keys[0].value, value, keys[0].position), False

    def _key(self) -> Token:
        if self._kind() not in (Kind.NAME, Kind.STRING):
            raise self._error(f"expected a key, not {self._kind().value}")
        return self._take()

    def _value(self, depth: int) -> Value:
        kind = self._kind()
        if kind in _LITERALS:
            return self._scalar(self._take())
        if kind is Kind.LEFT_BRACE:
            return self._body(depth + 1)
        if kind is Kind.LEFT_BRACKET:
            return self._list(depth + 1)
        hint = f"; put quotes around {self._ahead.text!r}" if kind is Kind.NAME else ""
        raise self._error(f"expected a value, not {kind.value}{hint}")

    def _body(self, depth: int) -> Body:
        opening = self._open(depth)
        return Body(self.attributes(Kind.RIGHT_BRACE, depth), opening.position, self._file)

    def _list(self, depth: int) -> ListValue:
        opening = self._open(depth)
        items: list[Value] = []
        while self._kind() is not Kind.RIGHT_BRACKET:
            items.append(self._value(depth))
            if self._kind() is Kind.COMMA:
                self._take()
            elif self._kind() is not Kind.RIGHT_BRACKET:
                raise self._error(f"expected ',' or ']' in a list, not {self._kind().value}")
        self._take()
        return ListValue(tuple(items), opening.position)

    def _open(self, depth: int) -> Token:
        if depth > MAXIMUM_DEPTH:
            raise self._error(f"more than {MAXIMUM_DEPTH} blocks and lists inside each other")
        return self._take()

    def _scalar(self, token: Token) -> Scalar:
        value: str | int | float | bool = token.value
        if token.kind is Kind.BOOLEAN:
            value = token.text == "true"
        elif token.kind is Kind.FLOAT:
            value = float(token.text)
            if not math.isfinite(value):
                raise self._error("a number is too large", token.position)
        elif token.kind is Kind.NUMBER:
            value = self._integer(token)
        return Scalar(value, token.value, token.position)

    def _integer(self, token: Token) -> int:
        digits = token.text.lstrip("-")
        base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") and len(digits) > 1 else 10
        try:
            return int(token.text, base)
        except ValueError:
            raise self._error(f"{token.text} begins with 0 and is no octal number", token.position) from None

    def _kind(self) -> Kind:
        return self._ahead.kind

    def _take(self) -> Token:
        token = self._ahead
        if token.kind is not Kind.END:
            self._ahead = next(self._tokens)
        return token

    def _error(self, message: str, position: Position | None = None) -> ConfigurationError:
        return self._lexer.error(message, position or self._ahead.position)
