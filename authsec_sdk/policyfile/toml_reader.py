"""TOML text into nodes that know their places. `tomllib` says what the text means; where it stands is found here.

The places are for people alone: were one wrong, an error would point to another line, and the policy be the same.
"""

import contextlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from authsec_sdk.authz.policy_document import Node
from authsec_sdk.authz.rules import Place
from authsec_sdk.policyfile.json_reader import MAX_DEPTH, Lines, refuse

__all__ = ["read_toml"]

# No alternative fails after a long look ahead: an unclosed string is the rest, and tomllib will say so.
_TOKEN: Final = re.compile(
    r"""(?P<string>\"\"\"(?:\\.|(?!\"\"\").)*(?:"{3,5})?|'''(?:(?!''').)*(?:'{3,5})?"""
    r"""|"(?:\\[^\n]|[^"\\\n])*"?|'[^'\n]*'?)"""
    r"""|(?P<skip>[ \t]+|\#[^\n]*)|(?P<newline>\r?\n)|(?P<bare>[A-Za-z0-9_-]+)|(?P<mark>.)""",
    re.DOTALL,
)
_POSITION: Final = re.compile(r"\(at line (\d+), column (\d+)\)|\(at end of document\)")

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


def read_toml(text: str) -> Node:
    """Read a TOML document (1.0, or what the Python that runs this takes).

    Raises:
        InvalidPolicyError: it is none, or it has keys of more than twelve parts, or lists and tables in each other more
            than twelve deep.
    """
    lines = Lines(text)
    tokens = list(_tokens(text, lines))
    try:
        plain = tomllib.loads(text)
    except RecursionError:
        refuse("lists and tables are nested too deeply", None)
    except ValueError as error:  # TOMLDecodeError is one, as are numbers of thousands of digits
        refuse(f"this is no TOML: {_POSITION.sub('', str(error)).strip()[:200]}", _error_place(str(error), lines, text))
    _check_depth(plain, 0)
    places = _Places(tokens, lines)
    with contextlib.suppress(IndexError):  # what this does not follow has no place, and that is all
        places.find()
    return _node(plain, (), places, Place(1, 1))


def _tokens(text: str, lines: Lines) -> Iterator[_Token]:
    """Yield all but blanks and comments; refuse dotted keys so long that tomllib would need minutes for them."""
    dots = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "skip" or kind is None:
            continue
        if kind == "mark" and match[0] == ".":
            dots += 1
            if dots > MAX_DEPTH:
                refuse("a key has too many parts", lines.place(match.start()))
        elif kind in ("mark", "newline"):
            dots = 0
        yield _Token(kind, match[0], match.start())


def _check_depth(value: object, depth: int) -> None:
    if isinstance(value, dict | list):
        if depth >= MAX_DEPTH:
            refuse("lists and tables are nested too deeply", None)
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, depth + 1)


def _error_place(text: str, lines: Lines, document: str) -> Place | None:
    found = _POSITION.search(text)
    if found is None:
        return None
    return Place(int(found[1]), int(found[2])) if found[1] else lines.place(len(document))


def _node(value: object, path: Path, places: "_Places", above: Place) -> Node:
    place = places.values.get(path, above)
    if isinstance(value, dict):
        members = {}
        for name, each in value.items():
            at = (*path, name)
            key = places.keys.get(at, place)
            members[name] = (key, _node(each, at, places, key))
        return Node(members, place)
    if isinstance(value, list):
        return Node(tuple(_node(each, (*path, index), places, place) for index, each in enumerate(value)), place)
    if isinstance(value, str | bool | int | float):
        return Node(value, place)
    return Node(0.0, place)  # a date or time: as wrong in a policy as any number


class _Places:
    """Where keys and values stand, in text that tomllib has taken."""

    def __init__(self, tokens: list[_Token], lines: Lines) -> None:
        self.keys: dict[Path, Place] = {}
        self.values: dict[Path, Place] = {}
        self._tokens = tokens
        self._lines = lines
        self._next = 0
        self._tables: dict[Path, int] = {}  # of each array of tables, the index of the last one

    def find(self) -> None:
        """Go through the tokens."""
        above: Path = ()
        while self._next < len(self._tokens):
            if self._skip("\n"):
                continue
            place = self._place()
            if self._skip("["):
                above = self._header(place)
            else:
                self._assignment(above)

    def _header(self, place: Place) -> Path:
        is_array = self._skip("[")
        path: Path = ()
        key = self._key()
        for number, (name, at) in enumerate(key, start=1):
            path = (*path, name)
            self.keys.setdefault(path, at)
            if is_array and number == len(key):
                self._tables[path] = self._tables.get(path, -1) + 1
            if path in self._tables:
                path = (*path, self._tables[path])
        self.values.setdefault(path, place)
        while self._skip("]"):
            pass
        return path

    def _assignment(self, above: Path) -> None:
        path = above
        for name, at in self._key():
            path = (*path, name)
            self.keys.setdefault(path, at)
        self._skip("=")
        self._value(path)

    def _key(self) -> list[tuple[str, Place]]:
        parts = []
        while True:
            token, place = self._tokens[self._next], self._place()
            self._next += 1
            name = token.text if token.kind == "bare" else tomllib.loads(f"x = {token.text}")["x"]
            parts.append((name, place))
            if not self._skip("."):
                return parts

    def _value(self, path: Path) -> None:
        self.values[path] = self._place()
        if self._skip("["):
            index = 0
            while not self._skip("]"):
                if self._skip("\n") or self._skip(","):
                    continue
                self._value((*path, index))
                index += 1
        elif self._skip("{"):
            while not self._skip("}"):
                if not self._skip("\n") and not self._skip(","):
                    self._assignment(path)
        else:
            while self._next < len(self._tokens) and self._tokens[self._next].text[-1] not in ",]}\n":
                self._next += 1
                if self._tokens[self._next - 1].kind == "string":
                    return

    def _place(self) -> Place:
        return self._lines.place(self._tokens[self._next].at)

    def _skip(self, wanted: str) -> bool:
        token = self._tokens[self._next] if self._next < len(self._tokens) else None
        if token is None or (token.text != wanted and not (wanted == "\n" and token.kind == "newline")):
            return False
        self._next += 1
        return True
