"""Agent path templates: the part of Go's text/template that upstream documents for `agent_path_template`, and no more.

    /{{ .PluginName }}/{{ .Fingerprint }}
    /cn/{{ .Subject.CommonName | lower }}
    /static/{{ index .ValidPrincipals 0 }}
    /{{ trimPrefix "node-" .Hostname }}

A template is read once, when the server starts. What it cannot do is refused there by name, fields that the attestor
does not have as well: a mistake must not wait for the first node that attests. Actions of Go (`if`, `range`, `with`,
variables) and most functions of sprig are such things.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

Value: TypeAlias = str | int | tuple[str, ...]
Fields: TypeAlias = Mapping[str, Value]
"""By dotted name, without the first dot: `Subject.CommonName`."""


class PathTemplateError(ValueError):
    """A template says what is not understood, or comes to nothing for this node."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a template may name: fields, and maps of which any key may be named (`.URISanSelectors.rack`)."""

    fields: frozenset[str]
    maps: frozenset[str] = frozenset()

    def has(self, name: str) -> bool:
        """Whether there is such a field."""
        return name in self.fields or (name.partition(".")[0] in self.maps and name.count(".") == 1)


@dataclass(frozen=True, slots=True)
class PathTemplate:
    """A template that was understood whole."""

    text: str
    parts: tuple[str | _Call | _Field, ...]

    @classmethod
    def parse(cls, text: str, known: Known) -> PathTemplate:
        """Read a template.

        Raises:
            PathTemplateError: it names a field or function that there is not, or is no such template.
        """
        try:
            return cls(text, _parts(text, known))
        except RecursionError:
            raise PathTemplateError("its parentheses are too deep") from None

    def render(self, fields: Fields) -> str:
        """Fill in the fields of one node.

        Raises:
            PathTemplateError: it lacks one of them, or a function cannot be applied to what it has.
        """
        rendered = []
        for part in self.parts:
            value = part if isinstance(part, str) else part.evaluate(fields)
            if isinstance(value, tuple):
                raise PathTemplateError(f"{self.text!r} puts a list where a text must be")
            rendered.append(str(value))
        return "".join(rendered)


@dataclass(frozen=True, slots=True)
class _Constant:
    value: Value

    def evaluate(self, fields: Fields) -> Value:
        del fields
        return self.value


@dataclass(frozen=True, slots=True)
class _Field:
    name: str

    def evaluate(self, fields: Fields) -> Value:
        if self.name not in fields:
            raise PathTemplateError(f"this node has no .{self.name}")
        return fields[self.name]


@dataclass(frozen=True, slots=True)
class _Call:
    function: str
    arguments: tuple[_Constant | _Field | _Call, ...]

    def evaluate(self, fields: Fields) -> Value:
        values = [argument.evaluate(fields) for argument in self.arguments]
        kinds, apply = _FUNCTIONS[self.function]
        for kind, value in zip(kinds, values, strict=True):
            if not isinstance(value, kind):
                raise PathTemplateError(f"{self.function} cannot be applied to {value!r}")
        return apply(*values)


_TRIM: Final = "\0trim"
_ACTION: Final = re.compile(r"\{\{(?P<left>-(?=\s))?(?P<inside>.*?)(?P<right>(?<=\s)-)?\}\}", re.DOTALL)
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<field>(?:\.[A-Za-z_][A-Za-z0-9_]*)+)|(?P<word>[A-Za-z_][A-Za-z0-9_]*)|(?P<number>-?[0-9]{1,9}\b)
    |(?P<string>"(?:[^"\\\n]|\\["\\])*"|`[^`]*`)|(?P<sign>[|()]))""",
    re.VERBOSE,
)


def _parts(text: str, known: Known) -> tuple[str | _Call | _Field, ...]:
    parts: list[str | _Call | _Field] = []
    position = 0
    for match in _ACTION.finditer(text):
        parts.append(_literal(text[position : match.start()], parts, trim_right=bool(match["left"])))
        parts.append(_Parser(match["inside"], known).pipeline())
        if match["right"]:
            parts.append(_TRIM)
        position = match.end()
    parts.append(_literal(text[position:], parts, trim_right=False))
    return tuple(part for part in parts if part not in ("", _TRIM))


def _literal(text: str, before: Sequence[object], *, trim_right: bool) -> str:
    if "{{" in text or "}}" in text:
        raise PathTemplateError("an action is not closed, or closed and never opened")
    if before and before[-1] == _TRIM:
        text = text.lstrip()
    return text.rstrip() if trim_right else text


class _Parser:
    """The inside of one pair of braces: a pipeline of calls and values."""

    def __init__(self, text: str, known: Known) -> None:
        self._known = known
        self._tokens = list(_tokens(text))
        self._next = 0

    def pipeline(self, *, nested: bool = False) -> _Call | _Field:
        value = self._command(None)
        while self._peek() == ("sign", "|"):
            self._next += 1
            value = self._command(value)
        if nested:
            if self._peek() != ("sign", ")"):
                raise PathTemplateError("a parenthesis is not closed")
            self._next += 1
        elif self._peek() is not None:
            raise PathTemplateError(f"{self._tokens[self._next][1]!r} is not expected there")
        if isinstance(value, _Constant):
            raise PathTemplateError("an action must name a field or a function")
        return value

    def _command(self, piped: _Constant | _Field | _Call | None) -> _Constant | _Field | _Call:
        token = self._peek()
        if token is not None and token[0] == "word":
            return self._call(piped)
        value = self._operand()
        if piped is not None:
            raise PathTemplateError("only a function can stand after '|'")
        return value

    def _call(self, piped: _Constant | _Field | _Call | None) -> _Call:
        name = self._tokens[self._next][1]
        self._next += 1
        if name not in _FUNCTIONS:
            raise PathTemplateError(f"{name!r} is not supported; there are: {', '.join(sorted(_FUNCTIONS))}")
        arguments = []
        while (token := self._peek()) is not None and token not in (("sign", "|"), ("sign", ")")):
            arguments.append(self._operand())
        if piped is not None:
            arguments.append(piped)
        wanted = len(_FUNCTIONS[name][0])
        if len(arguments) != wanted:
            raise PathTemplateError(f"{name} takes {wanted} arguments, not {len(arguments)}")
        return _Call(name, tuple(arguments))

    def _operand(self) -> _Constant | _Field | _Call:
        token = self._peek()
        if token is None:
            raise PathTemplateError("a value is missing")
        self._next += 1
        kind, text = token
        match kind:
            case "field":
                name = text[1:]
                if not self._known.has(name):
                    names = sorted(self._known.fields | {f"{each}.<key>" for each in self._known.maps})
                    raise PathTemplateError(f"unknown field .{name}; there are: {', '.join(f'.{n}' for n in names)}")
                return _Field(name)
            case "number":
                return _Constant(int(text))
            case "string":
                return _Constant(text[1:-1] if text[0] == "`" else re.sub(r"\\(.)", r"\1", text[1:-1]))
            case "sign" if text == "(":
                return self.pipeline(nested=True)
        raise PathTemplateError(f"{text!r} is not expected there")

    def _peek(self) -> tuple[str, str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None


def _tokens(text: str) -> Sequence[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None:
            raise PathTemplateError(f"{text[position:].strip()[:20]!r} is not understood")
        kind = match.lastgroup or ""
        found.append((kind, match[kind]))
        position = match.end()
    return found


def _index(values: tuple[str, ...], number: int) -> Value:
    if not 0 <= number < len(values):
        raise PathTemplateError(f"index {number} of a list of {len(values)}")
    return values[number]


def _first(values: tuple[str, ...]) -> Value:
    return _index(values, 0)


def _last(values: tuple[str, ...]) -> Value:
    return _index(values, len(values) - 1)


def _trunc(length: int, text: str) -> Value:
    return text[:length] if length >= 0 else text[length:]


def _split(separator: str, text: str) -> Value:
    return tuple(text.split(separator)) if separator else tuple(text)


def _sha1(text: str) -> Value:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_FUNCTIONS: Final[Mapping[str, tuple[tuple[type, ...], Callable[..., Value]]]] = {
    "index": ((tuple, int), _index),
    "first": ((tuple,), _first),
    "last": ((tuple,), _last),
    "join": ((str, tuple), lambda separator, values: separator.join(values)),
    "splitList": ((str, str), _split),
    "lower": ((str,), str.lower),
    "upper": ((str,), str.upper),
    "nospace": ((str,), lambda text: "".join(text.split())),
    "trim": ((str,), str.strip),
    "trimAll": ((str, str), lambda characters, text: text.strip(characters) if characters else text),
    "trimPrefix": ((str, str), lambda prefix, text: text.removeprefix(prefix)),
    "trimSuffix": ((str, str), lambda suffix, text: text.removesuffix(suffix)),
    "replace": ((str, str, str), lambda old, new, text: text.replace(old, new)),
    "trunc": ((int, str), _trunc),
    "sha1sum": ((str,), _sha1),
    "sha256sum": ((str,), lambda text: hashlib.sha256(text.encode()).hexdigest()),
}
"""By name: what each argument must be, and what it does. Names and the order of arguments are sprig's."""
