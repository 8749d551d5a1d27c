"""Command-line flags as Go reads them: `-x v`, `-x=v`, `--x`, and the words scripts written for SPIRE expect."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Generic, TypeVar

from authsec_sdk.errors import CallerError
from authsec_sdk.hcl.durations import format_duration, parse_duration

T = TypeVar("T")

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INT64 = range(-(1 << 63), 1 << 63)


class UsageError(CallerError):
    """The command line is wrong; the text is one line, to be followed by `usage`."""

    def __init__(self, message: str, usage: str = "") -> None:
        super().__init__(message)
        self.usage = usage


class HelpRequested(Exception):
    """`-h`, `-help` or `--help` stood among the flags; `usage` is the answer."""

    def __init__(self, usage: str) -> None:
        super().__init__(usage)
        self.usage = usage


@dataclass(slots=True)
class Flag(Generic[T]):
    """A declared flag; `value` is the default until `FlagSet.parse` has seen it, and `given` tells which."""

    name: str
    usage: str
    type_name: str
    default: T
    read: Callable[[str, T], T] = field(repr=False)
    shown_default: str = ""
    value: T = field(init=False)
    given: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.value = self.default

    @property
    def is_boolean(self) -> bool:
        """Whether the flag may stand without a value."""
        return isinstance(self.default, bool)


class FlagSet:
    """The flags of one command: declare them, `parse` once, then read each flag's `value`.

    flags = FlagSet("entry show", examples=("-entryID 5f2c…", "-selector unix:uid:1000"))
    entry_id = flags.string("entryID", "The Entry ID of the record to show.")
    rest = flags.parse(arguments)
    """

    def __init__(self, command: str, *, summary: str = "", examples: Sequence[str] = ()) -> None:
        self.command = command
        self.summary = summary
        self.examples = tuple(examples)
        self._flags: dict[str, Flag[Any]] = {}

    def string(self, name: str, usage: str, default: str = "") -> Flag[str]:
        """A text; the last one given counts."""
        shown = f'"{default}"' if default else ""
        return self._declare(Flag(name, usage, "string", default, lambda text, _: text, shown))

    def boolean(self, name: str, usage: str, default: bool = False) -> Flag[bool]:
        """True by its name alone, or `-name=false`."""
        return self._declare(Flag(name, usage, "", default, _boolean, "true" if default else ""))

    def integer(self, name: str, usage: str, default: int = 0) -> Flag[int]:
        """A whole number of 64 bits, in any base Go writes."""
        return self._declare(Flag(name, usage, "int", default, _integer, str(default) if default else ""))

    def duration(self, name: str, usage: str, default: timedelta = timedelta()) -> Flag[timedelta]:
        """A duration such as `1h30m`."""
        shown = format_duration(default) if default else ""
        return self._declare(Flag(name, usage, "duration", default, _duration, shown))

    def strings(self, name: str, usage: str) -> Flag[tuple[str, ...]]:
        """A text that may be given repeatedly."""
        none: tuple[str, ...] = ()
        return self._declare(Flag(name, usage, "value", none, lambda text, before: (*before, text)))

    def custom(self, name: str, usage: str, default: T, read: Callable[[str], T]) -> Flag[T]:
        """Whatever `read` makes of the text; its ValueError becomes a usage error."""
        return self._declare(Flag(name, usage, "value", default, lambda text, _: read(text)))

    def parse(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Read flags up to the first argument that is none, or past `--`; give what follows.

        Raises:
            UsageError: a flag is unknown, lacks its value, or its value is wrong.
            HelpRequested: help was asked for.
        """
        rest = list(arguments)
        while rest:
            argument = rest[0]
            if len(argument) < 2 or not argument.startswith("-"):
                break
            del rest[0]
            if argument == "--":
                break
            self._take(argument, rest)
        return tuple(rest)

    def usage(self) -> str:
        """The help text, in the order and form Go prints, with our examples behind it."""
        lines = [f"Usage of {self.command}:"]
        if self.summary:
            lines[:0] = [self.summary, ""]
        for name in sorted(self._flags):
            flag = self._flags[name]
            shown = f" (default {flag.shown_default})" if flag.shown_default else ""
            indented = flag.usage.replace("\n", "\n    \t")
            lines.append(f"  -{name} {flag.type_name}".rstrip())
            lines.append(f"    \t{indented}{shown}")
        if self.examples:
            lines += ["", "Examples:", *(f"  {example}" for example in self.examples)]
        return "\n".join(lines) + "\n"

    def error(self, message: str) -> UsageError:
        """An error about this command's flags that brings their usage with it."""
        return UsageError(message, self.usage())

    def _declare(self, flag: Flag[T]) -> Flag[T]:
        assert flag.name not in self._flags, f"flag {flag.name} is declared twice"
        self._flags[flag.name] = flag
        return flag

    def _take(self, argument: str, rest: list[str]) -> None:
        body = argument[2:] if argument.startswith("--") else argument[1:]
        if not body or body[0] in "-=":
            raise self.error(f"bad flag syntax: {argument}")
        name, equals, text = body.partition("=")
        flag = self._flags.get(name)
        if flag is None:
            if name in ("h", "help"):
                raise HelpRequested(self.usage())
            raise self.error(f"flag provided but not defined: -{name}")
        if not equals:
            if flag.is_boolean:
                text = "true"
            elif rest:
                text = rest.pop(0)
            else:
                raise self.error(f"flag needs an argument: -{name}")
        try:
            flag.value = flag.read(text, flag.value)
        except ValueError as error:
            what = "boolean value" if flag.is_boolean else "value"
            link = "" if flag.is_boolean else "flag "
            raise self.error(f"invalid {what} {_quoted(text)} for {link}-{name}: {error}") from None
        flag.given = True


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped) + '"'


def _boolean(text: str, _: bool) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError("parse error")
    return text in _TRUE


def _integer(text: str, _: int) -> int:
    try:
        if len(text) > 70 or text != text.strip():
            raise ValueError
        digits = text.lstrip("+-")
        number = int(text, 8 if digits[:1] == "0" and digits.isdigit() else 0)
    except ValueError:
        raise ValueError("parse error") from None
    if number not in _INT64:
        raise ValueError("value out of range")
    return number


def _duration(text: str, _: timedelta) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError("parse error") from None
