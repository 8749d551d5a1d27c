"""JSON of strangers inside tokens: one object, small, and refused wherever two readers could read it differently."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final, NoReturn

from authsec_sdk.jose.fault import InvalidTokenError, TokenFault

__all__ = ["MAX_BRACKETS", "load_object"]

MAX_BRACKETS: Final = 256
"""Objects and arrays in one document: far above any token's, far below what makes a parser recurse."""

_MAX_DIGITS: Final = 18  # of an integer; it then fits into 64 bits everywhere


def load_object(data: bytes, what: str) -> dict[str, object]:
    """Parse a JSON object; `what` is what errors call it. Bounded by the size of `data`, which the caller limits.

    Raises:
        InvalidTokenError: it is no JSON object in UTF-8; has a byte order mark, NaN, Infinity, a number too large, a
            lone surrogate, more than 256 brackets, or a member name twice in one of its objects, however escaped
            (RFC 8259 sections 4, 6, 8; RFC 7515 section 4; RFC 7519 section 4).
    """
    if data.count(b"{") + data.count(b"[") > MAX_BRACKETS:
        raise InvalidTokenError(TokenFault.TOO_LARGE, f"{what} has more than {MAX_BRACKETS} brackets")
    try:
        text = data.decode("utf-8")
        document = _decode(text)
        if "\\u" in text:  # the only way for half a surrogate pair to come in
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except InvalidTokenError as error:
        raise InvalidTokenError(error.fault, f"{what} {error.message}") from None
    except (ValueError, RecursionError) as error:  # UnicodeError and JSONDecodeError are ValueErrors
        raise InvalidTokenError(
            TokenFault.BAD_ENCODING, f"{what} is no JSON in UTF-8 ({type(error).__name__})"
        ) from None
    if not isinstance(document, dict):
        raise InvalidTokenError(TokenFault.MALFORMED, f"{what} is no JSON object")
    return document


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidTokenError(TokenFault.DUPLICATE_MEMBER, "has a member name twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise InvalidTokenError(TokenFault.BAD_ENCODING, f"has an integer of more than {_MAX_DIGITS} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise InvalidTokenError(TokenFault.BAD_ENCODING, "has a number too large to be read")
    return number


def _constant(name: str) -> NoReturn:
    raise InvalidTokenError(TokenFault.BAD_ENCODING, f"holds {name}, which is no JSON")


_decode: Final[Callable[[str], object]] = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
).decode
