"""Durations in Go's notation (`1h30m`, `250ms`), as SPIRE's files and flags have them."""

import re
from datetime import timedelta

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_PIECE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_MAXIMUM = (1 << 63) - 1
_MAXIMUM_TEXT = 64


def parse_duration(text: str) -> timedelta:
    """Read a duration; finer than a microsecond is cut off.

    Raises:
        ValueError: it is none, or longer than Go can hold (292 years).
    """
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return timedelta()
    total, at = 0, 0
    while len(text) <= _MAXIMUM_TEXT and (match := _PIECE.match(rest, at)):
        whole, _, fraction = match.group(1).partition(".")
        unit = _UNITS[match.group(2)]
        total += int(whole or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        at = match.end()
    if not rest or at != len(rest) or total > _MAXIMUM:
        raise ValueError(f"{text[:_MAXIMUM_TEXT]!r} is no duration: write it like 90s, 15m or 1h30m")
    return sign * timedelta(microseconds=total // 1_000)


def format_duration(duration: timedelta) -> str:
    """Write a duration as Go does: `1h0m0s`, `1.5s`, `250ms`, `0s`."""
    microseconds = round(duration / timedelta(microseconds=1))
    if microseconds == 0:
        return "0s"
    sign, microseconds = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
    if microseconds < 1_000:
        return f"{sign}{microseconds}µs"
    if microseconds < 1_000_000:
        return f"{sign}{_decimal(microseconds, 1_000)}ms"
    minutes, rest = divmod(microseconds, 60_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{_decimal(rest, 1_000_000)}s"
    if hours:
        return f"{sign}{hours}h{minutes}m{seconds}"
    return f"{sign}{minutes}m{seconds}" if minutes else f"{sign}{seconds}"


def _decimal(number: int, unit: int) -> str:
    whole, rest = divmod(number, unit)
    if not rest:
        return str(whole)
    return f"{whole}.{rest:0{len(str(unit)) - 1}}".rstrip("0")
