"""Patterns of HTTP paths, and which paths are plain enough to be judged at all; pure.

    pattern  = "/" / 1*( "/" segment ) [ "/**" ] / "/**"
    segment  = "*"              ; any one segment
             / literal          ; itself, letter by letter, percent-decoded

`**` comes last and stands for any number of segments, none too. One slash at the end of a path says nothing: a rule
about `/admin` is about `/admin/` too, since most routers send one to the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from authsec_sdk.errors import CallerError

__all__ = ["InvalidRoutePatternError", "RoutePattern", "path_fault"]

MAX_PATH: Final = 8192
MAX_PATTERN: Final = 1024
# Of an encoded slash, backslash or percent sign, routers differ on whether it is one; of an encoded NUL, on the end.
_AMBIGUOUS_ESCAPE: Final = re.compile(r"%(?:2[fF5]|5[cC]|00)")
_WRONG_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Decoded: controls, a backslash, a percent sign (somebody would decode again), bytes that were no UTF-8.
_ODD: Final = re.compile("[\x00-\x1f\x7f-\x9f\\\\%\ud800-\udfff\ufffd]")


class InvalidRoutePatternError(CallerError, ValueError):
    """A text is no pattern of HTTP paths."""


def path_fault(path: str, raw_path: str | None = None) -> str:
    """Say why a percent-decoded path could be read in two ways; empty if it reads one way only.

    `raw_path` is the path as it was sent, where the server tells; its query, if there is one, is not looked at.
    """
    if len(path) > MAX_PATH:
        return f"its path is longer than {MAX_PATH} characters"
    if not path.startswith("/"):
        return "its path does not begin with a slash"
    if _ODD.search(path):
        return "its path holds a control character, a backslash, a percent sign that was encoded, or no UTF-8"
    segments = path.split("/")[1:]
    if "" in segments[:-1]:
        return "its path holds an empty segment"
    if "." in segments or ".." in segments:
        return "its path holds a segment '.' or '..'"
    if raw_path is not None:
        sent = raw_path.partition("?")[0]
        if _AMBIGUOUS_ESCAPE.search(sent) or _WRONG_ESCAPE.search(sent):
            return "its path holds an encoded slash, backslash, percent sign or NUL, or a broken encoding"
    return ""


@dataclass(frozen=True, slots=True, order=True)
class RoutePattern:
    """A parsed pattern: the segments which must be there, and whether any may follow."""

    segments: tuple[str, ...]
    open_end: bool

    @classmethod
    def parse(cls, text: str) -> RoutePattern:
        """Read a pattern.

        Raises:
            InvalidRoutePatternError: no path that reads one way only could match it as it stands, it ends with a slash,
                `**` is not at its end, or a wildcard is a part of a segment.
        """
        if len(text) > MAX_PATTERN:
            raise InvalidRoutePatternError(f"a path pattern of {len(text)} characters is longer than {MAX_PATTERN}")
        if _ODD.search(text):
            raise InvalidRoutePatternError(
                f"{text!r} is no path pattern: write it decoded, without percent signs, backslashes or controls"
            )
        if fault := path_fault(text):
            raise InvalidRoutePatternError(f"{text!r} is no path pattern: {fault}")
        if "?" in text or "#" in text:
            raise InvalidRoutePatternError(f"{text!r} is no path pattern: queries and fragments are not looked at")
        if text == "/":
            return cls((), open_end=False)
        segments = tuple(text.split("/")[1:])
        if not segments[-1]:
            raise InvalidRoutePatternError(
                f"{text!r} ends with a slash, which says nothing: write {text.rstrip('/')!r} for both"
            )
        if "**" in segments[:-1]:
            raise InvalidRoutePatternError(f"{text!r} is no path pattern: ** stands for the rest, so it comes last")
        for segment in segments:
            if "*" in segment and segment not in ("*", "**"):
                raise InvalidRoutePatternError(f"{text!r} is no path pattern: * stands for a whole segment, not a part")
        open_end = segments[-1] == "**"
        return cls(segments[:-1] if open_end else segments, open_end)

    def matches(self, segments: tuple[str, ...]) -> bool:
        """Say whether the pattern stands for a path, given as its segments without a last empty one."""
        if len(segments) < len(self.segments) if self.open_end else len(segments) != len(self.segments):
            return False
        return all(wanted in ("*", segment) for wanted, segment in zip(self.segments, segments, strict=False))

    def __str__(self) -> str:
        return "/" + "/".join((*self.segments, *(("**",) if self.open_end else ())))
