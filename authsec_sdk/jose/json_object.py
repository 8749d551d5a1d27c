"""The JSON inside tokens: small, and refused with the error of tokens."""

from __future__ import annotations

from typing import Final

from authsec_sdk.jose.fault import InvalidTokenError
from authsec_sdk.jose.strict_json import UnsafeJSONError, load_strict_object

__all__ = ["MAX_BRACKETS", "load_object"]

MAX_BRACKETS: Final = 256
"""Objects and arrays in one document: far above any token's, far below what makes a parser recurse."""

_MAX_DIGITS: Final = 18  # of an integer; it then fits into 64 bits, signed, everywhere


def load_object(data: bytes, what: str) -> dict[str, object]:
    """Parse a JSON object; `what` is what errors call it. Bounded by the size of `data`, which the caller limits.

    Raises:
        InvalidTokenError: it has more than 256 brackets, or `load_strict_object` refuses it.
    """
    try:
        return load_strict_object(data, max_brackets=MAX_BRACKETS, max_digits=_MAX_DIGITS)
    except UnsafeJSONError as error:
        raise InvalidTokenError(error.fault, f"{what} {error}") from None
