"""How commands print: SPIRE's text for people, protobuf JSON for programs."""

import datetime
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TextIO

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

PRETTY = "pretty"
JSON = "json"
FORMATS = (PRETTY, JSON)


@dataclass(frozen=True, slots=True)
class Console:
    """Where a command writes, and in which of the two formats."""

    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    format: str = PRETTY

    @property
    def wants_json(self) -> bool:
        """Say whether the answer is printed as JSON instead of text."""
        return self.format == JSON

    def out(self, text: str = "") -> None:
        """Write a line to standard output."""
        self.stdout.write(text + "\n")

    def err(self, text: str = "") -> None:
        """Write a line to standard error."""
        self.stderr.write(text + "\n")

    def record(self, lines: Iterable[str], *, failed: bool = False) -> None:
        """Write the lines of a record, to standard error if it failed.

        An agent chooses its version and whoever makes an entry its hint: neither adds a line or moves the terminal.
        """
        write = self.err if failed else self.out
        for line in lines:
            write(printable(line))

    def json(self, message: Message) -> None:
        """Write `message` as one line of JSON."""
        self.out(to_json(message))


def to_json(message: Message) -> str:
    """Render a message as SPIRE's commands do.

    snake_case names, defaults printed, unset messages left out, 64-bit integers as text, keys sorted, and the three
    characters that HTML minds escaped (Go's encoder does that).
    """
    return dump_json(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def dump_json(value: Any) -> str:
    """Render plain data as one line of JSON in the form Go's encoder gives it."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def quote(text: str) -> str:
    """Put `text` in double quotes as Go's `%q` does: printable characters stay, others are escaped."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def printable(text: str) -> str:
    """Escape what a terminal would act on instead of showing it."""
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if short := _SHORT_ESCAPES.get(character):
        return short
    if character.isprintable():
        return character
    code = ord(character)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def utc_time(seconds: int) -> str:
    """Render a Unix time in UTC as Go prints a time: `2033-05-18 03:33:20 +0000 UTC`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def local_time(seconds: int) -> str:
    """Render a Unix time in the local zone as Go prints a time."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S %z %Z")


def plural(count: int, singular: str, plural_: str) -> str:
    """Choose the word that goes with `count`."""
    return singular if count == 1 else plural_
