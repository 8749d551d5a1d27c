"""JSON of strangers: one object, bounded, and refused wherever two readers could read it differently."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Final, NoReturn

from authsec_sdk.jose.fault import TokenFault

__all__ = ["MAX_DIGITS", "UnsafeJSONError", "load_strict_object"]

MAX_DIGITS: Final = 20
"""Of an integer: every one of 64 bits fits."""


class UnsafeJSONError(ValueError):
    """A document that is not read. The text goes on after a name for the document, and quotes nothing of it."""

    def __init__(self, fault: TokenFault, text: str) -> None:
        super().__init__(fault, text)
        self.fault = fault
        self.text = text

    def __str__(self) -> str:
        return self.text


def load_strict_object(
    data: bytes, *, max_bytes: int | None = None, max_brackets: int | None = None, max_digits: int = MAX_DIGITS
) -> dict[str, object]:
    """Parse a JSON object. Whoever gives no `max_bytes` has bounded `data` before.

    Raises:
        UnsafeJSONError: it is longer, or has more brackets (objects and arrays), or is nested too deeply; is no JSON
            object in UTF-8; has a byte order mark, NaN, Infinity, a number too large, a lone surrogate, or a member
            name twice in one of its objects, however escaped (RFC 8259 sections 4, 6, 8; RFC 7515 section 4; RFC 7517
            section 4; RFC 7519 section 4).
    """
    if max_bytes is not None and len(data) > max_bytes:
        raise UnsafeJSONError(TokenFault.TOO_LARGE, f"has {len(data)} bytes, more than {max_bytes}")
    if max_brackets is not None and data.count(b"{") + data.count(b"[") > max_brackets:
        raise UnsafeJSONError(TokenFault.TOO_LARGE, f"has more than {max_brackets} brackets")
    try:
        text = bytes(data).decode("utf-8")
        document = _decoder(max_digits)(text)
        if "\\u" in text:  # the only way for half a surrogate pair to come in
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnsafeJSONError:
        raise
    except RecursionError:
        raise UnsafeJSONError(TokenFault.TOO_LARGE, "is nested too deeply") from None
    except ValueError as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise UnsafeJSONError(TokenFault.BAD_ENCODING, f"is no JSON in UTF-8 ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise UnsafeJSONError(TokenFault.MALFORMED, "is no JSON object")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise UnsafeJSONError(TokenFault.DUPLICATE_MEMBER, "has a member name twice in one object")
    return members


def _fraction(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise UnsafeJSONError(TokenFault.BAD_ENCODING, "has a number too large to be read")
    return number


def _constant(name: str) -> NoReturn:
    raise UnsafeJSONError(TokenFault.BAD_ENCODING, f"holds {name}, which is no JSON")


@functools.cache
def _decoder(max_digits: int) -> Callable[[str], object]:
    def integer(digits: str) -> int:
        if len(digits) > max_digits:
            raise UnsafeJSONError(TokenFault.BAD_ENCODING, f"has an integer of more than {max_digits} digits")
        return int(digits)

    decoder = json.JSONDecoder(
        object_pairs_hook=_unique, parse_int=integer, parse_float=_fraction, parse_constant=_constant
    )

    def decode(text: str) -> object:
        if text[:1] == "{" and text[-1:] == "}":  # no blanks around it, as everybody writes it: one step less
            document, end = decoder.raw_decode(text)
            if end == len(text):
                return document
        return decoder.decode(text)

    return decode
